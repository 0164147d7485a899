"""The examples of the docstrings hold."""

import doctest
import importlib.util
import pkgutil

import custom_components
import pytest

# Modules that import a package of an extra.
EXTRA = () if importlib.util.find_spec("nvflare") else ("client", "environments", "job", "proximal_term", "rounds")
LEFT_OUT = ("__main__", *(f"federated.{name}" for name in EXTRA))
MODULES = [
    info.name
    for info in pkgutil.walk_packages(custom_components.__path__, "custom_components.")
    if not info.name.endswith(LEFT_OUT)
]


def examples(name):
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", [name for name in MODULES if examples(name)])
def test_the_examples_of_a_module_hold(name):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in examples(name):
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_most_modules_have_examples():
    assert sum(bool(examples(name)) for name in MODULES) > 0.4 * len(MODULES)
