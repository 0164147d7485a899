"""What the studies of both bundles share: data, overrides, and how a training and an evaluation are planned."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from custom_components.study.plans.study_data import StudyData
from custom_components.study.report.study_report import RESAMPLES, Report
from custom_components.study.runs.overrides import check_overrides, overrides_for
from custom_components.study.runs.run import EVALUATING, TRAINING, Run
from custom_components.study.runs.runner import Outcome

# Names shared by both bundles: configs, the folder of runs, and the outputs of trainings and evaluations.
TRAIN, EVALUATE, LAST_WEIGHTS = "train.yaml", "evaluate.yaml", "recipes/last_weights.yaml"
RUNS = "runs"
BEST, LAST, BEST_CARD, SPLIT = "models/model.pt", "models/last.pt", "models/model.json", "models/split.json"
CHECKPOINTS = "models/resume_checkpoint_epoch=*.pt"
PER_CASE, SUMMARY = "eval/per_case.csv", "eval/summary.json"


@dataclass(frozen=True)
class Study(ABC):
    """Planned runs of a bundle and the report of their results.

    Args:
        bundle: folder of the bundle.
        folder: output folder of the study.
        data: cases for cross-validation.
        overrides: config values for every run that uses them.

    Raises:
        ValueError: if an override is not valid, or no run uses it.
    """

    bundle: Path
    folder: Path
    data: StudyData
    overrides: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        check_overrides(self.overrides, [(self._paths(files), verb) for files, verb in self.configs()])

    @property
    def data_sets(self) -> dict[str, StudyData]:
        """Data sets of the study, by purpose."""
        return {"folds": self.data}

    @abstractmethod
    def configs(self) -> Iterable[tuple[tuple[str, ...], str]]:
        """Config files and verb of each kind of run."""

    @abstractmethod
    def words(self) -> dict[str, str]:
        """Description of each protocol, by name."""

    @abstractmethod
    def runs(self) -> list[Run]:
        """Runs that can be planned before any result exists."""

    def estimates(self) -> dict[str, float]:
        """Estimated seconds of runs that did not run yet, by name; empty if nothing is known."""
        return {}

    @property
    def estimate_words(self) -> str:
        """What the :meth:`estimates` are made from; empty without estimates."""
        return ""

    @property
    def later_words(self) -> str:
        """Description of the later runs; empty without later runs."""
        return ""

    def later_runs(self, outcome: Outcome) -> list[Run]:
        """Runs planned from the scores of the finished runs."""
        return []

    @abstractmethod
    def report(self, outcome: Outcome, resamples: int = RESAMPLES) -> Report:
        """Tables and figures of the finished runs."""

    def _paths(self, files: Iterable[str]) -> list[str]:
        return [str(self.bundle / "configs" / file) for file in files]

    def _run(
        self,
        name: str,
        kind: str,
        config: tuple[tuple[str, ...], str],
        data: StudyData | None = None,
        overrides: Mapping[str, Any] | None = None,
        **own: Any,
    ) -> Run:
        """A run with the overrides that it uses and its own settings."""
        files, verb = config
        chosen = overrides_for(self.overrides if overrides is None else overrides, self._paths(files), verb)
        sha256 = (data or self.data).fingerprint.sha256
        return Run(name, kind, self.bundle, verb, files, self.folder / RUNS / name, {**chosen, **own}, data=sha256)

    def _training(self, name: str, kind: str, files: tuple[str, ...], **own: Any) -> Run:
        """A training; it keeps the weights of the last epoch with the overlay for them, else those of the best."""
        run, is_last = self._run(name, kind, (files, TRAINING), **own), LAST_WEIGHTS in files
        places = {"ckpt_dir": run.folder / "models", "output_dir": run.folder / "tensorboard"}
        return replace(
            run,
            places={"dataset_dir": self.data.root, **places},
            outputs=(LAST if is_last else BEST, SPLIT),
            disposable=(CHECKPOINTS, BEST, BEST_CARD) if is_last else (CHECKPOINTS,),
        )

    def _evaluation(
        self, name: str, kind: str, files: tuple[str, ...], training: Run, data: StudyData | None = None, **own: Any
    ) -> Run:
        """An evaluation of the weights of a training."""
        run = self._run(name, kind, (files, EVALUATING), data, **own)
        places = {"ckpt_path": training.folder / training.outputs[0], "output_dir": run.folder / "eval"}
        places = {"dataset_dir": (data or self.data).root, **places}
        return replace(run, places=places, outputs=(PER_CASE, SUMMARY), needs=(training.name,))


def long_table(parts: Iterable[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    """Join tables, which may be none, to one with these columns and types."""
    joined = pd.concat([pd.DataFrame(columns=list(columns)), *parts])
    return joined[list(columns)].astype(columns).reset_index(drop=True)
