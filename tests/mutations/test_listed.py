import ast
import re

import pytest

from tests.mutations.__main__ import ROOT
from tests.mutations.listed import MUTATIONS
from tests.mutations.mutation import Mutation
from tests.mutations.trial import BROKEN, KILLED, NOT_FOUND, SURVIVED, try_all, try_one


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_mutation_is_one_place_of_the_code_and_still_python(mutation):
    assert mutation.found(ROOT) == 1
    path = ROOT / "custom_components" / mutation.file
    before = path.read_text(encoding="utf-8")
    after = before.replace(mutation.text, mutation.becomes)
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before))
    for test in mutation.tests:
        file, *function = test.split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(re.search(rf"^def {name}\b", text, re.MULTILINE) for name in function)


def test_no_two_mutations_have_the_same_name():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 60


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A package of one line with one test."""
    (tmp_path / "custom_components").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    (tmp_path / "custom_components" / "area.py").write_text("def area(a, b):\n    return a * b\n")
    (tmp_path / "test_area.py").write_text(
        "import runpy\narea = runpy.run_path('custom_components/area.py')['area']\n"
        "def test_area():\n    assert area(2, 2) == 4\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tests.mutations.trial.ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "becomes", "outcome"),
    [
        ("a * b", "a - b", KILLED),
        ("a * b", "a + b", SURVIVED),  # 2 + 2 = 2 * 2
        ("a / b", "a + b", NOT_FOUND),
        ("return a * b", "return (", BROKEN),
    ],
)
def test_a_mutation_is_killed_by_a_test_that_fails_and_by_nothing_else(copy, text, becomes, outcome):
    before = (copy / "custom_components" / "area.py").read_text()
    assert try_one(Mutation("area", "area.py", text, becomes, ("test_area.py",))) == outcome
    assert (copy / "custom_components" / "area.py").read_text() == before


def test_a_checkout_is_never_mutated(copy):
    (copy / ".git").mkdir()
    with pytest.raises(SystemExit, match="is a checkout, and mutations change it"):
        try_all("")
