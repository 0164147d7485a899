"""A study of covid_cap_bundle: the systems of Table II on the folds of the datalist (Ouyang et al. 2020)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.folds import select_fold
from custom_components.images.ct_reader import case_name
from custom_components.study.plans.attention_panels import (
    PANEL_CONFIG,
    branch_overrides,
    choose_panels,
    panel_path,
    panel_run,
)
from custom_components.study.plans.study_data import StudyData
from custom_components.study.report.cap_report import cap_report
from custom_components.study.report.study_report import RESAMPLES, Report
from custom_components.study.results.ensemble_search import SearchProtocol, nested_ensemble
from custom_components.study.results.study_results import PAPER, TEST, TV, ClassificationResults, read_case_table
from custom_components.study.runs.overrides import overrides_for
from custom_components.study.runs.run import (
    CHECKPOINTS,
    EVALUATE,
    EVALUATING,
    INFERENCE,
    LAST_WEIGHTS,
    PER_CASE,
    RUNS,
    SUMMARY,
    TRAIN,
    TRAINING,
    Run,
)
from custom_components.study.runs.runner import Outcome
from custom_components.study.runs.study_folder import CACHE

NESTED: SearchProtocol = "nested"
PLAIN, UNIFORM, SIZE_BALANCED = "plain_us", "attention_us", "attention_ss"

# Systems that are trained, in the order of Table II: title, and the overlays on top of train.yaml.
SYSTEMS = {
    PLAIN: ("RN34 + US", ("networks/plain.yaml",)),
    UNIFORM: ("Attention RN34 + US", ()),
    SIZE_BALANCED: ("Attention RN34 + SS", ("recipes/size_balanced.yaml",)),
}
ENSEMBLE_TITLE = "Attention RN34 + DS"

PREDICTION_COLUMNS = {
    **{"system": "object", "set": "object", "fold": "int64", "case_id": "object"},
    **{"probability": "float64", "attention_dice": "float64"},
}


@dataclass(frozen=True)
class CapStudy:
    """Cross-validation of the classifiers; the fold models are also scored on a test set.

    Args:
        bundle: folder of covid_cap_bundle.
        folder: output folder of the study.
        data: cross-validation scans.
        test: scans of other patients; None without a test set.
        protocol: ``nested`` (nothing is selected on the reported scores) or ``paper``.
        systems: subset of ``SYSTEMS``.
        overrides: config values.
        num_panels: maximum number of scans whose attention is drawn.

    Raises:
        ValueError: if a fold is not usable or a patient is in both sets.
    """

    bundle: Path
    folder: Path
    data: StudyData
    test: StudyData | None = None
    protocol: SearchProtocol = NESTED
    systems: tuple[str, ...] = tuple(SYSTEMS)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    num_panels: int = 6

    def __post_init__(self) -> None:
        for fold in self.folds:
            select_fold(list(self.data.cases), fold)
        if self.test is not None:
            check_test_set(self.data, self.test)

    @property
    def folds(self) -> list[int]:
        """Folds of the datalist."""
        return sorted({scan["fold"] for scan in self.data.cases})

    @property
    def data_sets(self) -> dict[str, StudyData]:
        """Data sets of the study, by purpose."""
        return {"folds": self.data} if self.test is None else {"folds": self.data, TEST: self.test}

    @property
    def has_ensemble(self) -> bool:
        """Whether the study trains both branches of the ensemble."""
        return {UNIFORM, SIZE_BALANCED} <= set(self.systems)

    @property
    def weights(self) -> str:
        """File name of the weights that are scored."""
        return "models/model.pt" if self.protocol == PAPER else "models/last.pt"

    def words(self) -> dict[str, str]:
        """Description of the protocol, by name."""
        count = len(self.folds)
        folds = f"{count} folds by patient, from the datalist. Each scan is scored by a model not trained on it."
        how = {
            PAPER: "As in the paper, each model is the epoch with the best AUC on the fold it is scored on, and the "
            "ensemble's weights and thresholds were searched on the reported predictions: these scores are optimistic.",
            NESTED: "Each model is the last epoch: nothing was selected on the fold it is scored on. "
            "The ensemble's weights and thresholds for a fold were searched on the predictions of the other folds; "
            "those for the test set, on the predictions of all folds.",
        }
        return {self.protocol: f"{folds} {how[self.protocol]}"}

    def runs(self) -> list[Run]:
        """For each system and fold: the training, then its evaluations."""
        return [run for system in self.systems for fold in self.folds for run in self._of_fold(system, fold)]

    def training(self, system: str, fold: int) -> Run:
        """Train a system on all folds but one."""
        last = (LAST_WEIGHTS,) if self.protocol == NESTED else ()
        unused = ("models/model.pt", "models/model.json") if self.protocol == NESTED else ()
        run = self._run(f"{system}/fold_{fold}/train", TRAINING, (TRAIN, *SYSTEMS[system][1], *last), self.data)
        return replace(
            run,
            overrides={**run.overrides, "fold": fold},
            places={
                "dataset_dir": self.data.root,
                "ckpt_dir": run.folder / "models",
                "output_dir": run.folder / "tensorboard",
                **self._cache(),
            },
            outputs=(self.weights, "models/split.json"),
            disposable=(CHECKPOINTS, *unused),
        )

    def evaluation(self, system: str, fold: int) -> Run:
        """Score a model on its validation fold."""
        run = self._evaluation("evaluate", system, fold, self.data)
        return replace(run, overrides={**run.overrides, "fold": fold})

    def test_evaluation(self, system: str, fold: int) -> Run:
        """Score a model on the test set."""
        if self.test is None:
            raise ValueError("The study has no test set. Set one with --test_dir.")
        return self._evaluation(TEST, system, fold, self.test)

    def collect(self, outcome: Outcome) -> ClassificationResults:
        """Collect the results of the finished runs.

        Args:
            outcome: outcome of the runs.

        Returns:
            The results. A run that did not finish has no predictions and is listed as failed.
        """
        sets = {TV: self.data} if self.test is None else {TV: self.data, TEST: self.test}
        cases = pd.concat([_scans(data, name) for name, data in sets.items()], ignore_index=True)
        branches = _typed([pd.DataFrame(columns=list(PREDICTION_COLUMNS)), *self._predictions(outcome)])
        titles = [SYSTEMS[system][0] for system in self.systems]
        pair = (SYSTEMS[UNIFORM][0], SYSTEMS[SIZE_BALANCED][0])
        found = nested_ensemble(cases, branches, *pair, ENSEMBLE_TITLE, self.protocol)
        results = ClassificationResults(
            protocols=self.words(),
            cases=cases,
            predictions=_typed([branches, found.predictions]),
            systems=(*titles, ENSEMBLE_TITLE) if self.has_ensemble else tuple(titles),
            ensemble=found.ensemble,
            panels={},
            failed=tuple(outcome.failed),
        )
        return replace(results, panels=self.panels(results))

    def later_runs(self, outcome: Outcome) -> list[Run]:
        """Inference runs for the attention figures, by models not trained on these scans."""
        return self.panel_runs(self.collect(outcome))

    @property
    def later_words(self) -> str:
        """Description of the :meth:`later_runs`; empty if there are none."""
        shown = f"Then attention figures of up to {self.num_panels} scans, selected by their scores."
        return shown if self.has_ensemble and self.num_panels else ""

    def report(self, outcome: Outcome, resamples: int = RESAMPLES) -> Report:
        """Tables and figures of the finished runs."""
        return cap_report(self.collect(outcome), resamples)

    def panel_runs(self, results: ClassificationResults) -> list[Run]:
        """One inference run per fold with scans to show; none without an ensemble."""
        systems = {"uniform": UNIFORM, "size_balanced": SIZE_BALANCED, "plain": PLAIN}
        runs = []
        for fold, scans, rule in self._shown(results):
            trained = {name: self.training(own, fold) for name, own in systems.items() if own in self.systems}
            run = self._run(_panel_name(fold), INFERENCE, (PANEL_CONFIG,), self.data, branch_overrides(self.overrides))
            weights = {name: training.folder / self.weights for name, training in trained.items()}
            data = json.dumps([run.data, [scan["case_id"] for scan in scans.values()]])
            needs = tuple(training.name for training in trained.values())
            runs.append(panel_run(replace(run, needs=needs, data=data), scans, rule, weights))
        return runs

    def _shown(self, results: ClassificationResults) -> list[tuple[int, dict[str, Mapping[str, Any]], pd.Series]]:
        """For each fold with scans to show and a rule: the scans by image name, and the rule."""
        if not self.has_ensemble or results.ensemble.empty:
            return []
        chosen, by_fold = set(choose_panels(results, self.num_panels)), defaultdict[int, dict[str, Any]](dict)
        for scan in self.data.cases:
            if scan["case_id"] in chosen:
                by_fold[scan["fold"]].setdefault(case_name(scan["image"]), scan)
        found = results.ensemble[(results.ensemble["set"] == TV) & results.ensemble["w_inside"].notna()]
        rules = {int(rule["fold"]): rule for _, rule in found.iterrows()}
        return [(fold, by_fold[fold], rules[fold]) for fold in sorted(by_fold) if fold in rules]

    def panels(self, results: ClassificationResults) -> dict[str, Path]:
        """Attention figures by case id, including those of a run that failed at a later scan."""
        paths = {
            scan["case_id"]: self._folder(_panel_name(fold)) / panel_path(name)
            for fold, scans, _ in self._shown(results)
            for name, scan in scans.items()
        }
        return {case_id: path for case_id, path in paths.items() if path.is_file()}

    def _predictions(self, outcome: Outcome) -> Iterator[pd.DataFrame]:
        for system in self.systems:
            for fold in self.folds:
                scored = {TV: self.evaluation(system, fold)}
                scored |= {} if self.test is None else {TEST: self.test_evaluation(system, fold)}
                for name, run in scored.items():
                    if outcome.has(run):
                        table = read_case_table(run.folder / PER_CASE)[["case_id", "probability", "attention_dice"]]
                        yield table.assign(system=SYSTEMS[system][0], set=name, fold=fold)

    def _of_fold(self, system: str, fold: int) -> list[Run]:
        test = [] if self.test is None else [self.test_evaluation(system, fold)]
        return [self.training(system, fold), self.evaluation(system, fold), *test]

    def _evaluation(self, what: str, system: str, fold: int, data: StudyData) -> Run:
        training = self.training(system, fold)
        run = self._run(f"{system}/fold_{fold}/{what}", EVALUATING, (TRAIN, EVALUATE), data)
        places = {"ckpt_path": training.folder / self.weights, "output_dir": run.folder / "eval", **self._cache()}
        places = {"dataset_dir": data.root, **places}
        return replace(run, places=places, outputs=(PER_CASE, SUMMARY), needs=(training.name,))

    def _run(
        self, name: str, verb: str, files: tuple[str, ...], data: StudyData, given: Mapping[str, Any] | None = None
    ) -> Run:
        """Build a run with the common settings; runs of one system and verb share a kind."""
        system, _, what = name.split("/")
        overrides = self.overrides if given is None else given
        own = overrides_for(overrides, [str(self.bundle / "configs" / file) for file in files], verb)
        folder, kind = self._folder(name), f"{system} {what}"
        return Run(name, kind, self.bundle, verb, files, folder, own, data=data.fingerprint.sha256)

    def _folder(self, name: str) -> Path:
        return self.folder / RUNS / name

    def _cache(self) -> dict[str, Path]:
        return {"cache_dir": self.overrides.get("cache_dir", self.folder / CACHE)}


def check_test_set(data: StudyData, test: StudyData) -> None:
    """Check that the test set shares no patient or scan with the folds.

    Raises:
        ValueError: if it does; the message gives the number of patients and some cases.
    """
    known = {scan["patient_id"] for scan in data.cases}
    shared = [scan for scan in test.cases if scan["patient_id"] in known]
    if shared:
        patients = len({scan["patient_id"] for scan in shared})
        raise ValueError(
            f"{patients} patients of the test set are also in the folds; their test cases: "
            f"{shorten([scan['case_id'] for scan in shared])}. Remove them from one of the sets or, if they are "
            "different people, give them different patient_ids (without one, the case_id is the patient_id)."
        )


def _panel_name(fold: int) -> str:
    return f"panels/fold_{fold}/show"


def _scans(data: StudyData, name: str) -> pd.DataFrame:
    keys = ("case_id", "patient_id", "label", "ratio", "fold")
    rows = [
        {"set": name, **{key: scan.get(key) for key in keys}, **further}
        for scan, further in zip(data.cases, data.further, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"label": int, "ratio": float, "fold": int})
    return frame if name == TV else frame.assign(fold=-1)


def _typed(predictions: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(predictions)[list(PREDICTION_COLUMNS)].astype(PREDICTION_COLUMNS).reset_index(drop=True)
