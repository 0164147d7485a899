"""One run of a bundle, as a study needs it: what is run, where it writes, and what proves it done."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

TRAINING, EVALUATING, INFERENCE = "training", "evaluating", "run"

# Of both bundles: configs, the folder of a study's runs, and what evaluations and trainings leave there.
TRAIN, EVALUATE, LAST_WEIGHTS = "train.yaml", "evaluate.yaml", "recipes/last_weights.yaml"
RUNS = "runs"
PER_CASE, SUMMARY = "eval/per_case.csv", "eval/summary.json"
CHECKPOINTS = "models/resume_checkpoint_epoch=*.pt"


@dataclass(frozen=True)
class Run:
    """A ``monai.bundle run`` of a study.

    What is run and where it writes are apart: the hash that recognises a finished run is made of the first alone, so
    that a study's folder, or the data, may move.

    Args:
        name: such as ``attention_us/fold_2/train``; unique in a study.
        kind: runs of one kind take about the same time.
        bundle: its folder.
        verb: what is run: ``training``, ``evaluating`` or ``run``.
        config_files: names in the bundle's ``configs``.
        folder: what the run writes is in here.
        overrides: numbers of the config, by their ids.
        places: files and folders of the config, by their ids.
        outputs: files in ``folder`` that prove the run done.
        needs: names of the runs that go before.
        data: fingerprint of the cases that are read.
        disposable: files in ``folder`` that nobody needs once it is done, as patterns.
        inputs: makes files that it reads and that are there no longer than it runs.
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
        """The config files where they are."""
        return tuple(str(self.bundle / "configs" / name) for name in self.config_files)

    def command(self, resume: bool = False) -> list[str]:
        """Its command line, for no shell.

        Args:
            resume: whether a training goes on from its newest checkpoint.

        Returns:
            The interpreter and its arguments.
        """
        settings = {"bundle_root": self.bundle, **self.places, **self.overrides, **({"resume": True} if resume else {})}
        options = [f"--{key}={argument(value)}" for key, value in settings.items()]
        return [
            *(sys.executable, "-m", "monai.bundle", "run", self.verb),
            f"--config_file={list(self.config_paths)}",
            *options,
        ]


def argument(value: Any) -> str:
    """A value as the word of a command line that Fire reads as this value.

    Example:
        >>> argument([96, 96]), argument(None), argument("auto"), argument("12"), argument(Path("/data/007"))
        ('[96, 96]', 'None', 'auto', "'12'", '/data/007')
    """
    if not isinstance(value, str | Path):
        return repr(value)
    text = str(value)
    return text if DefaultParseValue(text) == text else repr(text)


def check_plan(runs: Sequence[Run], earlier: Iterable[str] = ()) -> None:
    """Refuse a plan whose runs share a name or a folder, or need a run that does not go before.

    Args:
        runs: in the order of the plan.
        earlier: names of runs that were planned before.

    Raises:
        ValueError: naming the run.
    """
    before = set(earlier)
    for run in runs:
        missing = [name for name in run.needs if name not in before]
        if missing:
            raise ValueError(f"Run {run.name} needs {missing[0]}, which does not go before it. List it first.")
        if run.name in before:
            raise ValueError(f"Run {run.name} is planned twice. Give each run a name of its own.")
        before.add(run.name)
    if len({run.folder for run in runs}) < len(runs):
        raise ValueError("Two runs would write into one folder. Give each a folder of its own.")
