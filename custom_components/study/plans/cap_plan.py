"""Runs of a study of covid_cap_bundle: the systems of Table II on the folds of the datalist (Ouyang et al. 2020)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_components.datalists.case_problems import shorten
from custom_components.datalists.folds import select_fold
from custom_components.study.plans.study_data import StudyData
from custom_components.study.results.study_results import TEST
from custom_components.study.runs.overrides import overrides_for
from custom_components.study.runs.run import EVALUATING, TRAINING, Run
from custom_components.study.runs.study_folder import CACHE, RUNS

NESTED, PAPER = "nested", "paper"
PLAIN, UNIFORM, SIZE_BALANCED = "plain_us", "attention_us", "attention_ss"

# Systems that are trained, in the order of Table II: title, and the overlays beside train.yaml.
SYSTEMS = {
    PLAIN: ("RN34 + US", ("plain.yaml",)),
    UNIFORM: ("Attention RN34 + US", ()),
    SIZE_BALANCED: ("Attention RN34 + SS", ("size_balanced.yaml",)),
}
ENSEMBLE_TITLE = "Attention RN34 + DS"
TRAIN, EVALUATE, LAST_WEIGHTS = "train.yaml", "evaluate.yaml", "last_weights.yaml"
# What a training leaves that a study does not need.
CHECKPOINTS = "models/resume_checkpoint_epoch=*.pt"


@dataclass(frozen=True)
class CapStudy:
    """Cross-validation of the classifiers, and their models on a test set.

    Args:
        bundle: folder of covid_cap_bundle.
        folder: of the study.
        data: scans of the folds.
        test: scans of other patients; None without a test set.
        protocol: ``nested``, which chooses nothing on what it reports, or ``paper``.
        systems: which of ``SYSTEMS``.
        overrides: numbers of the configs.

    Raises:
        ValueError: when a fold cannot be used, or a patient is in both sets.
    """

    bundle: Path
    folder: Path
    data: StudyData
    test: StudyData | None = None
    protocol: str = NESTED
    systems: tuple[str, ...] = tuple(SYSTEMS)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for fold in self.folds:
            select_fold(list(self.data.cases), fold)
        if self.test is not None:
            check_test_set(self.data, self.test)

    @property
    def folds(self) -> list[int]:
        """Those of the datalist."""
        return sorted({scan["fold"] for scan in self.data.cases})

    @property
    def has_ensemble(self) -> bool:
        """Whether both branches of the ensemble are trained."""
        return {UNIFORM, SIZE_BALANCED} <= set(self.systems)

    @property
    def weights(self) -> str:
        """The weights of a training that are scored."""
        return "models/model.pt" if self.protocol == PAPER else "models/last.pt"

    def words(self) -> str:
        """The protocol in words."""
        count = len(self.folds)
        folds = f"{count} folds by patient, those of the datalist. Each scan is scored by the model that left it out."
        if self.protocol == PAPER:
            return (
                f"{folds} As in the paper, a model is that of the epoch with the best AUC on the fold that it is then "
                "scored on, and the ensemble's weights and thresholds were searched on the predictions that are then "
                "reported: these scores are optimistic."
            )
        return (
            f"{folds} A model is that of its last epoch, so that nothing was chosen on the fold that it is scored on. "
            "The ensemble's weights and thresholds for a fold were searched on the predictions of the other folds, "
            "those for the test set on the predictions of all folds."
        )

    def runs(self) -> list[Run]:
        """Trainings first of each system and fold, then what is scored with it."""
        return [run for system in self.systems for fold in self.folds for run in self._of_fold(system, fold)]

    def run_folder(self, name: str) -> Path:
        """Where a run writes."""
        return self.folder / RUNS / name

    def training(self, system: str, fold: int) -> Run:
        """Train a system on all folds but one."""
        name = f"{system}/fold_{fold}/train"
        files = (TRAIN, *SYSTEMS[system][1], *((LAST_WEIGHTS,) if self.protocol == NESTED else ()))
        folder = self.run_folder(name)
        own = {"ckpt_dir": folder / "models", "output_dir": folder / "tensorboard"}
        unused = ("models/model.pt", "models/model.json") if self.protocol == NESTED else ()
        return Run(
            **self._common(name, f"{system} train", TRAINING, files),
            folder=folder,
            overrides={**self._overrides(files), "fold": fold},
            places={"dataset_dir": self.data.root, **own, **self._cache()},
            outputs=(self.weights, "models/split.json"),
            data=self.data.fingerprint.sha256,
            disposable=(CHECKPOINTS, *unused),
        )

    def evaluation(self, system: str, fold: int) -> Run:
        """Score a model on the fold that it left out."""
        name = f"{system}/fold_{fold}/evaluate"
        return self._evaluation(name, f"{system} evaluate", system, fold, self.data, {"fold": fold})

    def test_evaluation(self, system: str, fold: int) -> Run:
        """Score a model on the test set."""
        if self.test is None:
            raise ValueError("The study has no test set. Give one with --test_dir.")
        return self._evaluation(f"{system}/fold_{fold}/{TEST}", f"{system} {TEST}", system, fold, self.test, {})

    def _of_fold(self, system: str, fold: int) -> list[Run]:
        test = [] if self.test is None else [self.test_evaluation(system, fold)]
        return [self.training(system, fold), self.evaluation(system, fold), *test]

    def _evaluation(
        self, name: str, kind: str, system: str, fold: int, data: StudyData, which: Mapping[str, Any]
    ) -> Run:
        training, folder, files = self.training(system, fold), self.run_folder(name), (EVALUATE,)
        places = {"ckpt_path": training.folder / self.weights, "output_dir": folder / "eval", **self._cache()}
        return Run(
            **self._common(name, kind, EVALUATING, files),
            folder=folder,
            overrides={**self._overrides(files), **which},
            places={"dataset_dir": data.root, **places},
            outputs=("eval/per_case.csv", "eval/summary.json"),
            needs=(training.name,),
            data=data.fingerprint.sha256,
        )

    def _common(self, name: str, kind: str, verb: str, files: Sequence[str]) -> dict[str, Any]:
        return {"name": name, "kind": kind, "bundle": self.bundle, "verb": verb, "config_files": tuple(files)}

    def _overrides(self, files: Sequence[str]) -> dict[str, Any]:
        return overrides_for(self.overrides, [str(self.bundle / "configs" / name) for name in files])

    def _cache(self) -> dict[str, Path]:
        return {"cache_dir": self.overrides.get("cache_dir", self.folder / CACHE)}


def check_test_set(data: StudyData, test: StudyData) -> None:
    """Refuse a test set that holds patients, or scans, of the folds.

    Raises:
        ValueError: with the number of patients and some of their cases.
    """
    known = {scan["patient_id"] for scan in data.cases}
    shared = [scan for scan in test.cases if scan["patient_id"] in known]
    if shared:
        patients = len({scan["patient_id"] for scan in shared})
        raise ValueError(
            f"{patients} patients of the test set are in the folds too; their cases there: "
            f"{shorten([scan['case_id'] for scan in shared])}. Take them out of one of the sets or, if they are other "
            "people, give them a patient_id of their own (without one, the case_id counts as the patient)."
        )
