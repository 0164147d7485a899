"""The rooms of the package: each says what lives there, and imports only what stands below it."""

import ast
from functools import cache
from pathlib import Path

import custom_components
import pytest

PACKAGE = Path(custom_components.__path__[0])
# From the ground up: a room may import itself and what stands before it.
ROOMS = (
    "_version", "labels", "infection_size", "files", "dicom", "images", "phantom", "datalists", "weights", "data",
    "networks", "losses", "metrics", "inferers", "engines", "transforms", "pictures", "reports", "handlers", "datasets",
    "command_line", "cluster", "diagnosis", "serve", "followup", "masks", "study", "federated", "__main__",
)  # fmt: skip
STUDY = ("statistics", "results", "runs", "tables", "figures", "report", "plans", "conduct", "command")
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").parts for path in PACKAGE.rglob("*.py"))


@cache
def imports_of(module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Modules of the package that a module names in an import, wherever the import stands."""
    tree = ast.parse(PACKAGE.joinpath(*module).with_suffix(".py").read_text(encoding="utf-8"))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {f"{line.module}.{alias.name}" for line in lines for alias in line.names}
    found = (tuple(name.split(".")[1:]) for name in names if name.startswith(f"{PACKAGE.name}."))
    known = {*MODULES, *(one[:-1] for one in MODULES if one[-1] == "__init__")}
    return {next((name[:end] for end in (len(name), len(name) - 1) if name[:end] in known), name) for name in found}


def code_of(folder: str = "") -> list[tuple[str, ...]]:
    return [module for module in MODULES if module != ("__init__",) and (not folder or module[0] == folder)]


def arrows_up(modules, order, place):
    rank = {name: index for index, name in enumerate(order)}
    pairs = [(module, other) for module in modules for other in imports_of(module) if other[:place] == module[:place]]
    return [
        f"{'.'.join(module)} imports {'.'.join(other)}"
        for module, other in pairs
        if len(other) > place and len(module) > place and rank[other[place]] > rank[module[place]]
    ]


def test_every_room_has_its_place():
    assert {module[0] for module in code_of()} == set(ROOMS)


def test_no_room_imports_one_above_it():
    assert arrows_up(code_of(), ROOMS, 0) == []


def test_no_room_of_the_study_imports_one_above_it():
    modules = [module for module in code_of("study") if module[1] != "__init__"]
    assert arrows_up(modules, STUDY, 1) == []


def test_no_module_imports_itself_by_a_detour():
    below: dict[tuple[str, ...], set[tuple[str, ...]]] = {}

    def reached(module, path=()):
        assert module not in path, " -> ".join(map(".".join, (*path, module)))
        if module not in below:
            known = imports_of(module) if module in MODULES else set()
            below[module] = known.union(*(reached(other, (*path, module)) for other in known))
        return below[module]

    for module in code_of():
        reached(module)


@pytest.mark.parametrize("room", sorted({module[:-1] for module in MODULES if len(module) > 1}), ids="/".join)
def test_every_room_says_in_one_sentence_what_lives_there(room):
    docstring = ast.get_docstring(ast.parse(PACKAGE.joinpath(*room, "__init__.py").read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.splitlines()[0].endswith(".")


def test_no_public_name_is_defined_twice():
    places: dict[str, list[str]] = {}
    for module in code_of():
        tree = ast.parse(PACKAGE.joinpath(*module).with_suffix(".py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(".".join(module))
    assert {name: where for name, where in places.items() if len(where) > 1 and name != "main"} == {}
