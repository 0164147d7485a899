"""A study of covid_cap_bundle: the systems of Table II on the folds of the datalist (Ouyang et al. 2020)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.folds import select_fold
from custom_components.images.ct_reader import case_name
from custom_components.study.plans.attention_panels import PANEL_CONFIG, branch_overrides, choose_panels, panel_run
from custom_components.study.plans.step_times import HOW_TO_ESTIMATE, StepTimes
from custom_components.study.plans.study import EVALUATE, LAST_WEIGHTS, PER_CASE, TRAIN, Study, long_table
from custom_components.study.plans.study_data import StudyData
from custom_components.study.report.cap_report import cap_report
from custom_components.study.report.study_report import RESAMPLES, Report
from custom_components.study.results.ensemble_search import SearchProtocol, nested_ensemble, paper_ensemble
from custom_components.study.results.study_results import PAPER, TEST, TV, ClassificationResults, read_case_table
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import EVALUATING, INFERENCE, TRAINING, Run
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
PAPER_WEIGHTS_TITLE = "Attention RN34 + DS, w of the paper"

PREDICTION_COLUMNS = {
    **{"system": "object", "set": "object", "fold": "int64", "case_id": "object"},
    **{"probability": "float64", "attention_dice": "float64"},
}


@dataclass(frozen=True)
class CapStudy(Study):
    """Cross-validation of the classifiers; the fold models are also scored on a test set.

    Args:
        bundle: folder of covid_cap_bundle.
        folder: output folder of the study.
        data: scans for cross-validation.
        overrides: config values.
        test: scans of other patients; None without a test set.
        protocol: ``nested`` (nothing is selected on the reported scores) or ``paper``.
        systems: subset of ``SYSTEMS``.
        num_panels: maximum number of scans whose attention is drawn.
        search_thresholds: whether the ensemble's thresholds are searched too, not only its weights.
        seconds_per_step: seconds of one training step on the hardware of the study, for the estimated time; None if it
            was not measured.

    Raises:
        ValueError: if a fold is not usable, a patient is in both sets, or an override is not valid.
    """

    test: StudyData | None = None
    protocol: SearchProtocol = NESTED
    systems: tuple[str, ...] = tuple(SYSTEMS)
    num_panels: int = 6
    search_thresholds: bool = False
    seconds_per_step: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for fold in self.folds:
            select_fold(list(self.data.cases), fold)
        if self.test is not None:
            check_test_set(self.data, self.test)

    @property
    def folds(self) -> list[int]:
        """Folds of the datalist."""
        return sorted({scan["fold"] for scan in self.data.cases})

    @property
    def sets(self) -> dict[str, StudyData]:
        """Scans for cross-validation and, if there is one, the test set."""
        return {TV: self.data} if self.test is None else {TV: self.data, TEST: self.test}

    @property
    def data_sets(self) -> dict[str, StudyData]:
        """Data sets of the study, by purpose."""
        return {"folds" if name == TV else name: data for name, data in self.sets.items()}

    @property
    def has_ensemble(self) -> bool:
        """Whether the study trains both branches of the ensemble."""
        return {UNIFORM, SIZE_BALANCED} <= set(self.systems)

    def configs(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Config files and verb of each kind of run."""
        yield (TRAIN, EVALUATE), EVALUATING
        for system in self.systems:
            yield self._training_files(system), TRAINING

    def words(self) -> dict[str, str]:
        """Description of the protocol, by name."""
        count, found = len(self.folds), "weights and thresholds" if self.search_thresholds else "weights"
        folds = f"{count} folds by patient, from the datalist. Each scan is scored by a model not trained on it."
        how = {
            PAPER: "As in the paper, each model is the epoch with the best AUC on the fold it is scored on, and the "
            f"ensemble's {found} were searched on the reported predictions: these scores are optimistic.",
            NESTED: "Each model is the last epoch: nothing was selected on the fold it is scored on. "
            f"The ensemble's {found} for a fold were searched on the predictions of the other folds; "
            "those for the test set, on the predictions of all folds.",
        }
        return {self.protocol: f"{folds} {how[self.protocol]}"}

    def runs(self) -> list[Run]:
        """For each system and fold: the training, then its evaluations."""
        return [
            run
            for system in self.systems
            for fold in self.folds
            for run in (self.training(system, fold), *self.evaluations(system, fold).values())
        ]

    def training(self, system: str, fold: int) -> Run:
        """Train a system on all folds but one."""
        name, kind = f"{system}/fold_{fold}/train", f"{system} train"
        return self._cached(self._training(name, kind, self._training_files(system), fold=fold))

    def evaluations(self, system: str, fold: int) -> dict[str, Run]:
        """Score a model on its validation fold and on the test set; by set."""
        training, files, runs = self.training(system, fold), (TRAIN, EVALUATE), {}
        for name, data in self.sets.items():
            what, own = ("evaluate", {"fold": fold}) if name == TV else (name, {})
            run = self._evaluation(f"{system}/fold_{fold}/{what}", f"{system} {what}", files, training, data, **own)
            runs[name] = self._cached(run)
        return runs

    def estimates(self) -> dict[str, float]:
        """Estimated seconds of trainings and evaluations, by name, from the seconds of one training step."""
        found: dict[str, float] = {}
        for system, fold in product(self.systems, self.folds):
            training = self.training(system, fold)
            if (steps := self._steps(training)) is None:
                return {}
            held_out = sum(scan["fold"] == fold for scan in self.data.cases)
            found[training.name] = steps.training_s(len(self.data.cases) - held_out, held_out)
            for name, run in self.evaluations(system, fold).items():
                found[run.name] = steps.scoring_s(held_out if name == TV else len(self.sets[name].cases))
        return found

    @property
    def estimate_words(self) -> str:
        """What the :meth:`estimates` are made from, or how to get them."""
        steps = self._steps(self.training(self.systems[0], self.folds[0]))
        return steps.words() if steps else HOW_TO_ESTIMATE

    def collect(self, outcome: Outcome) -> ClassificationResults:
        """Collect the results of the finished runs; a run that did not finish has no predictions.

        Args:
            outcome: outcome of the runs.

        Returns:
            The results.
        """
        cases = pd.concat([_scans(data, name) for name, data in self.sets.items()], ignore_index=True)
        branches = long_table(self._predictions(outcome), PREDICTION_COLUMNS)
        titles = [SYSTEMS[system][0] for system in self.systems]
        pair = (SYSTEMS[UNIFORM][0], SYSTEMS[SIZE_BALANCED][0])
        found = nested_ensemble(cases, branches, *pair, ENSEMBLE_TITLE, self.protocol, self.search_thresholds)
        stated = paper_ensemble(cases, branches, *pair, PAPER_WEIGHTS_TITLE)
        results = ClassificationResults(
            protocols=self.words(),
            cases=cases,
            predictions=long_table([branches, stated, found.predictions], PREDICTION_COLUMNS),
            systems=(*titles, PAPER_WEIGHTS_TITLE, ENSEMBLE_TITLE) if self.has_ensemble else tuple(titles),
            ensemble=found.ensemble,
            panels={},
            failed=tuple(outcome.failed),
            variants=(PAPER_WEIGHTS_TITLE,),
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
        overrides, runs = branch_overrides(self.overrides), []
        for fold, scans, rule in self._shown(results):
            trained = {name: self.training(own, fold) for name, own in systems.items() if own in self.systems}
            run = self._run(
                f"panels/fold_{fold}/show", "panels show", ((PANEL_CONFIG,), INFERENCE), overrides=overrides
            )
            weights = {name: training.folder / training.outputs[0] for name, training in trained.items()}
            data = json.dumps([run.data, [scan["case_id"] for scan in scans.values()]])
            needs = tuple(training.name for training in trained.values())
            runs.append(panel_run(replace(run, needs=needs, data=data), scans, rule, weights))
        return runs

    def panels(self, results: ClassificationResults) -> dict[str, Path]:
        """Attention figures by case id, including those of a run that failed at a later scan."""
        paths = {
            scan["case_id"]: run.folder / path
            for run, (_, scans, _) in zip(self.panel_runs(results), self._shown(results), strict=True)
            for path, scan in zip(run.outputs, scans.values(), strict=True)
        }
        return {case_id: path for case_id, path in paths.items() if path.is_file()}

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

    def _predictions(self, outcome: Outcome) -> Iterator[pd.DataFrame]:
        for system in self.systems:
            for fold in self.folds:
                for name, run in self.evaluations(system, fold).items():
                    if outcome.has(run):
                        table = read_case_table(run.folder / PER_CASE)[["case_id", "probability", "attention_dice"]]
                        yield table.assign(system=SYSTEMS[system][0], set=name, fold=fold)

    def _training_files(self, system: str) -> tuple[str, ...]:
        last = (LAST_WEIGHTS,) if self.protocol == NESTED else ()
        return (TRAIN, *SYSTEMS[system][1], *last)

    def _steps(self, training: Run) -> StepTimes | None:
        if self.seconds_per_step is None:
            return None
        return StepTimes.of(config_content(training.config_paths, training.overrides), self.seconds_per_step)

    def _cached(self, run: Run) -> Run:
        cache = self.overrides.get("cache_dir", self.folder / CACHE)
        return replace(run, places={**run.places, "cache_dir": cache})


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


def _scans(data: StudyData, name: str) -> pd.DataFrame:
    keys = ("case_id", "patient_id", "label", "ratio", "fold")
    rows = [
        {"set": name, **{key: scan.get(key) for key in keys}, **further}
        for scan, further in zip(data.cases, data.further, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"label": int, "ratio": float, "fold": int})
    return frame if name == TV else frame.assign(fold=-1)
