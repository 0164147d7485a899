"""A study of covid_cap_bundle: the systems of Table II on the folds of the datalist (Ouyang et al. 2020)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import pandas as pd
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.folds import select_fold
from custom_components.handlers.slice_table import SLICE_TABLE
from custom_components.images.ct_reader import case_name
from custom_components.study.plans.attention_panels import PANEL_CONFIG, branch_overrides, panel_run
from custom_components.study.plans.step_times import HOW_TO_ESTIMATE, StepTimes
from custom_components.study.plans.study import EVALUATE, LAST_WEIGHTS, PER_CASE, TRAIN, Study, long_table
from custom_components.study.plans.study_data import StudyData
from custom_components.study.report.cap_report import cap_report
from custom_components.study.report.study_report import RESAMPLES, Report
from custom_components.study.results.ensemble_search import SearchProtocol, nested_ensemble, paper_ensemble
from custom_components.study.results.panel_choice import choose_panels
from custom_components.study.results.slice_scores import labelled_slices
from custom_components.study.results.study_results import (
    PAPER,
    TEST,
    TV,
    AttentionPanel,
    ClassificationResults,
    read_case_table,
)
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

SLICES = f"eval/{SLICE_TABLE}"
_MODEL = ["system", "set", "fold"]

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
        num_panels: maximum number of scans whose attention is drawn, for each set and system.
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
            what, own = ("evaluate", {"fold": fold}) if name == TV else (name, dict[str, Any]())
            own |= {"slice_table": True} if data.slice_labels else {}
            run = self._evaluation(f"{system}/fold_{fold}/{what}", f"{system} {what}", files, training, data, **own)
            further = (SLICES,) if data.slice_labels else ()
            runs[name] = self._cached(replace(run, outputs=(*run.outputs, *further)))
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
            panels=(),
            failed=tuple(outcome.failed),
            variants=(PAPER_WEIGHTS_TITLE,),
            slices=pd.concat([pd.DataFrame(), *self._slices(outcome)], ignore_index=True),
        )
        return replace(results, panels=self.panels(results))

    def later_runs(self, outcome: Outcome) -> list[Run]:
        """Inference runs for the attention figures, by models not trained on these scans."""
        return self.panel_runs(self.collect(outcome))

    @property
    def later_words(self) -> str:
        """Description of the :meth:`later_runs`; empty if there are none."""
        count = f"up to {self.num_panels} scans for each set and system"
        shown = f"Then attention figures of {count}, selected by their scores."
        return shown if self.has_ensemble and self.num_panels else ""

    def report(self, outcome: Outcome, resamples: int = RESAMPLES) -> Report:
        """Tables and figures of the finished runs."""
        return cap_report(self.collect(outcome), resamples)

    def panel_runs(self, results: ClassificationResults) -> list[Run]:
        """One inference run per set and fold with scans to show; none without an ensemble."""
        systems = {"uniform": UNIFORM, "size_balanced": SIZE_BALANCED, "plain": PLAIN}
        rules = {(rule["set"], int(rule["fold"])): rule for _, rule in results.ensemble.iterrows()}
        overrides, runs = branch_overrides(self.overrides), []
        for (name, fold), panels in self._shown(results).items():
            trained = {key: self.training(own, fold) for key, own in systems.items() if own in self.systems}
            what, config = ("show" if name == TV else name), ((PANEL_CONFIG,), INFERENCE)
            run = self._run(f"panels/fold_{fold}/{what}", f"panels {what}", config, self.sets[name], overrides)
            weights = {key: training.folder / training.outputs[0] for key, training in trained.items()}
            data = json.dumps([run.data, [panel.case_id for panel in panels.values()]])
            scans = {image: self._scan(panel) for image, panel in panels.items()}
            needs = tuple(training.name for training in trained.values())
            runs.append(panel_run(replace(run, needs=needs, data=data), scans, rules[name, fold], weights))
        return runs

    def panels(self, results: ClassificationResults) -> tuple[AttentionPanel, ...]:
        """Scans with their attention figures, including those of a run that failed at a later scan."""
        drawn = [
            replace(panel, path=run.folder / path)
            for run, panels in zip(self.panel_runs(results), self._shown(results).values(), strict=True)
            for path, panel in zip(run.outputs, panels.values(), strict=True)
        ]
        return tuple(panel for panel in drawn if panel.path is not None and panel.path.is_file())

    def _shown(self, results: ClassificationResults) -> dict[tuple[str, int], dict[str, AttentionPanel]]:
        """For each set and fold: the scans to show by image name, of which each run writes only one."""
        found = defaultdict[tuple[str, int], dict[str, AttentionPanel]](dict)
        if self.has_ensemble:
            for panel in choose_panels(results, self.num_panels):
                found[panel.set, panel.fold].setdefault(case_name(self._scan(panel)["image"]), panel)
        return {key: found[key] for name in self.sets for key in sorted(found) if key[0] == name}

    def _scan(self, panel: AttentionPanel) -> Mapping[str, Any]:
        return self._scans[panel.set][panel.case_id]

    @cached_property
    def _scans(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        return {name: {scan["case_id"]: scan for scan in data.cases} for name, data in self.sets.items()}

    def _predictions(self, outcome: Outcome) -> Iterator[pd.DataFrame]:
        columns = ["case_id", "probability", "attention_dice"]
        for table, _ in self._tables(outcome, PER_CASE):
            yield table[[*columns, *_MODEL]]

    def _slices(self, outcome: Outcome) -> Iterator[pd.DataFrame]:
        """Slices of the scans with slice labels."""
        for table, data in self._tables(outcome, SLICES):
            yield labelled_slices(table, data.slice_labels)

    def _tables(self, outcome: Outcome, output: str) -> Iterator[tuple[pd.DataFrame, StudyData]]:
        """A table of each finished evaluation that has it, with the columns of ``_MODEL``; and the data."""
        for system in self.systems:
            for fold in self.folds:
                for name, run in self.evaluations(system, fold).items():
                    if outcome.has(run) and output in run.outputs:
                        table = read_case_table(run.folder / output)
                        yield table.assign(system=SYSTEMS[system][0], set=name, fold=fold), self.sets[name]

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
