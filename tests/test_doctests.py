"""The examples of the docstrings hold."""

import doctest
import importlib
import pkgutil

import custom_components
import pytest

MODULES = [
    info.name
    for info in pkgutil.walk_packages(custom_components.__path__, "custom_components.")
    if not info.name.endswith("__main__")
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
