"""One bundle run of a study: command, output folder and files that prove completion."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

TRAINING, EVALUATING, INFERENCE = "training", "evaluating", "run"


@dataclass(frozen=True)
class Run:
    """A ``monai.bundle run`` of a study.

    Settings (``overrides``) and locations (``places``) are separate: only the settings enter the hash of a finished
    run, so the study folder and the data may be moved.

    Args:
        name: unique name, such as ``attention_us/fold_2/train``.
        kind: runs of one kind take about the same time.
        bundle: folder of the bundle.
        verb: config id to run: ``training``, ``evaluating`` or ``run``.
        config_files: file names in the bundle's ``configs``.
        folder: output folder.
        overrides: settings by config id.
        places: files and folders by config id.
        outputs: files in ``folder`` that prove that the run is complete.
        needs: names of the runs that must finish first.
        data: fingerprint of the cases that it reads.
        disposable: glob patterns of files in ``folder`` to delete after the run.
        inputs: function that writes temporary input files, which exist only during the run.
    """

    name: str
    kind: str
    bundle: Path
    verb: str
    config_files: tuple[str, ...]
    folder: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Path] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    data: str = ""
    disposable: tuple[str, ...] = ()
    inputs: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def config_paths(self) -> tuple[str, ...]:
        """Paths of the config files."""
        return tuple(str(self.bundle / "configs" / name) for name in self.config_files)

    def command(self, resume: bool = False) -> list[str]:
        """Command line as a list of arguments, without a shell; a training can resume from its newest checkpoint."""
        settings = {"bundle_root": self.bundle, **self.places, **self.overrides, **({"resume": True} if resume else {})}
        options = [f"--{key}={argument(value)}" for key, value in settings.items()]
        return [
            *(sys.executable, "-m", "monai.bundle", "run", self.verb),
            f"--config_file={list(self.config_paths)}",
            *options,
        ]


def argument(value: Any) -> str:
    """Format a value as a command-line argument that Fire parses back to this value.

    Example:
        >>> argument([96, 96]), argument(None), argument("auto"), argument("12"), argument(Path("/data/007"))
        ('[96, 96]', 'None', 'auto', "'12'", '/data/007')
    """
    if not isinstance(value, str | Path):
        return repr(value)
    text = str(value)
    return text if DefaultParseValue(text) == text else repr(text)


def check_plan(runs: Sequence[Run], earlier: Iterable[str] = ()) -> None:
    """Check that runs have unique names and folders and follow the runs that they need.

    Args:
        runs: runs in the order of the plan.
        earlier: names of runs planned before.

    Raises:
        ValueError: if the plan is not valid; the message names the run.
    """
    before = set(earlier)
    for run in runs:
        missing = [name for name in run.needs if name not in before]
        if missing:
            raise ValueError(f"Run {run.name} needs {missing[0]}, which is not planned before it. List it first.")
        if run.name in before:
            raise ValueError(f"Run {run.name} is planned twice. Give each run a unique name.")
        before.add(run.name)
    if len({run.folder for run in runs}) < len(runs):
        raise ValueError("Two runs would write to the same folder. Give each run its own folder.")
