import ast
import csv
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from custom_components.command_line.bundle_command import with_base
from custom_components.transforms.small_lesions import SMALLEST
from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow, run
from monai.utils.module import locate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PHRASE = 85  # characters
ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@dataclass(frozen=True)
class Bundle:
    """A bundle under test, and the overrides that make its network and grid as small as they still learn."""

    folder: Path
    small: dict[str, Any]

    def config_files(self, *names: str) -> list[str]:
        """Paths of configs, overlays wherever they are; an evaluation comes with the training that it is on top of."""
        configs = self.folder / "configs"
        paths = [next(configs.glob(f"*/{name}"), configs / name) for name in names]
        return list(with_base([str(path) for path in paths]))

    def parser_of(self, *names: str) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(self.config_files(*names))
        return parser

    def run(self, names: list[str] | str, run_id: str = "run", small: bool = True, **overrides: Any) -> None:
        """`python -m monai.bundle run` within this process; not small: with the numbers of model.json."""
        files = self.config_files(*([names] if isinstance(names, str) else names))
        given = {"bundle_root": self.folder, **(self.small if small else {"amp": False}), **overrides}
        run(run_id=run_id, config_file=files, logging_file=False, **as_text(given))

    def workflow(self, *names: str, workflow_type: str = "train", **overrides: Any) -> ConfigWorkflow:
        """Parse configs as a MONAI workflow, the shipped values unchanged but for what is given."""
        return ConfigWorkflow(
            config_file=self.config_files(*names),
            workflow_type=workflow_type,
            logging_file=False,
            **as_text({"bundle_root": self.folder, **overrides}),
        )

    def command(
        self, cwd: Path, run_id: str, files: list[str], launcher: tuple[str, ...] = (), **overrides: Any
    ) -> subprocess.CompletedProcess[str]:
        """The real command line, its output and its errors in the order in which they come."""
        command = [*(launcher or (sys.executable,)), "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
        for key, value in {"bundle_root": self.folder, **overrides}.items():
            command += [f"--{key}", str(value)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)  # a bundle brings its custom_components
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )


def as_text(overrides: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No test runs in the bundle's folder; the process gets its excepthook back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def workflow_of(bundle: Bundle) -> Callable[..., ConfigWorkflow]:
    return bundle.workflow


@pytest.fixture
def run_command(bundle: Bundle, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    return partial(bundle.command, tmp_path)


def nodes(config: Any) -> Iterator[Any]:
    yield config
    children = config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    for child in children:
        yield from nodes(child)


def as_without_card(value: Any) -> Any:
    """A config's value where weights have no model.json: the default behind ``$@trained.get('name', ...)``.

    What a component requires first, such as a check, is no value of it.
    """
    if isinstance(value, dict):
        return {key: as_without_card(child) for key, child in value.items() if key != "_requires_"}
    if isinstance(value, list):
        return [as_without_card(child) for child in value]
    asked = (
        re.fullmatch(r"\$@\w*trained\.(?:get|network|split)\('\w+', (.*)\)", value) if isinstance(value, str) else None
    )
    if asked is None:
        return value
    if asked[1] == "SMALLEST":
        return SMALLEST
    return asked[1] if asked[1].startswith("@") else ast.literal_eval(asked[1])


def check_targets(parser: ConfigParser) -> None:
    """Every `_target_` of a config is the name of one thing."""
    locator = ComponentLocator()
    targets = {node["_target_"] for node in nodes(parser.get()) if isinstance(node, dict) and "_target_" in node}
    assert targets
    for target in targets:
        module = locator.get_component_module_name(target)
        assert not isinstance(module, list), f"{target} is ambiguous: {module}"
        assert locate(target if module is None else f"{module}.{target}") is not None, target


def check_overlay(parser: ConfigParser, overlay: dict[str, Any], new: tuple[str, ...] = ()) -> None:
    """An overlay overrides named entries and never repeats; only what `new` ends with is its own."""
    for key, value in overlay.items():
        own = key.startswith("+") or key.endswith(new)
        assert own or key in parser, f"{key} is new"
        assert own or value != parser.get(key), f"{key} repeats the config below it"


def transforms_in(parser: ConfigParser, found: Any) -> list[dict[str, Any]]:
    """Transforms that a config names, in order; those of a list, expression or reference in its place."""
    if isinstance(found, str):
        return [one for id_ in re.findall(r"@([\w#]+)", found) for one in transforms_in(parser, parser[id_])]
    if isinstance(found, dict):
        return transforms_in(parser, found["transforms"]) if found["_target_"] == "Compose" else [found]
    return [one for part in found for one in transforms_in(parser, part)]


def check_phrases(parser: ConfigParser) -> None:
    """What a config computes is a phrase; what is longer is a function with a name and tests."""
    texts = [node for node in nodes(parser.get()) if isinstance(node, str) and node.startswith("$")]
    assert texts
    assert [text for text in texts if len(text) > PHRASE] == []


def knobs_of(config: Path) -> set[str]:
    """What stands above the network in a train.yaml, to be set."""
    header = config.read_text(encoding="utf-8").split("# ---- network")[0]
    return {line.split(":")[0] for line in header.splitlines() if line[:1].isalpha()}


def training_handler(get: Callable[[str], Any], name: str) -> Any:
    """The training's handler of a class; None when it is disabled."""
    return next((handler for handler in get("train#handlers") if class_name(handler) == name), None)


def wrong_knobs(knobs: dict[str, tuple[Any, Callable[..., Any], Any]], get: Callable[[str], Any]) -> dict[str, Any]:
    """What is found of each knob that does not arrive where it should."""
    found = {knob: (look(get), expected) for knob, (_, look, expected) in knobs.items()}
    return {knob: value for knob, (value, expected) in found.items() if value != expected}


def class_name(thing: Any) -> str:
    return type(thing).__name__


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def epochs_kept(folder: Path) -> list[int]:
    return sorted(int(path.stem.split("=")[1]) for path in folder.glob("resume_checkpoint_epoch=*.pt"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
