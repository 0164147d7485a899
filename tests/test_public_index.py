import subprocess
import sys

import custom_components
import pytest

HEAVY = ("torch", "monai", "numpy", "pydicom")
LOOK = f"print(*[name for name in {HEAVY} if name in sys.modules])"


def test_heavy_libraries_are_imported_with_the_first_name_that_needs_them():
    code = f"import sys, custom_components; custom_components.__version__; {LOOK}; custom_components.VBNet; {LOOK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    at_first, then = done.stdout.splitlines()
    assert at_first == ""
    assert "torch" in then.split()


@pytest.mark.parametrize("name", custom_components.__all__)
def test_every_name_of_the_index_is_there(name):
    found = getattr(custom_components, name)
    assert name in ("__version__", "phantom") or found.__name__ == name


def test_the_index_is_sorted_and_names_what_it_imports():
    assert custom_components.__all__ == sorted(custom_components.__all__) == dir(custom_components)
    own = {"TYPE_CHECKING", "Any"}
    assert set(custom_components._modules()) - own == set(custom_components.__all__)


def test_a_name_that_is_not_in_the_index_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'VBNett'"):
        custom_components.VBNett  # noqa: B018


@pytest.mark.parametrize(("old", "new"), custom_components.RENAMED.items())
def test_an_old_name_works_for_one_release_and_warns_once(old, new):
    assert old not in custom_components.__all__
    vars(custom_components).pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now named {new}") as warned:
        found = [getattr(custom_components, old) for _ in range(2)]
    assert found == [getattr(custom_components, new)] * 2
    assert len(warned) == 1
