"""From the per-case tables of a study's evaluations to its results: covid_cap_bundle."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pandas as pd
from custom_components.study.plans.cap_plan import ENSEMBLE_TITLE, PAPER, SIZE_BALANCED, SYSTEMS, UNIFORM, CapStudy
from custom_components.study.plans.study_data import StudyData
from custom_components.study.results.case_table import read_case_table
from custom_components.study.results.ensemble_search import nested_ensemble
from custom_components.study.results.study_results import TEST, TV, ClassificationResults
from custom_components.study.runs.run import Run
from custom_components.study.runs.runner import Outcome

PREDICTION_COLUMNS = {
    "system": "object",
    "set": "object",
    "fold": "int64",
    "case_id": "object",
    "probability": "float64",
    "attention_dice": "float64",
}
PER_CASE = "eval/per_case.csv"


def collect_cap(study: CapStudy, outcome: Outcome, panels: Mapping[str, Path] | None = None) -> ClassificationResults:
    """Results of a study, of those runs that are finished.

    Args:
        study: what was planned.
        outcome: what became of its runs.
        panels: attention figures by case id.

    Returns:
        The results. A run that did not finish has no predictions, and is among the failed ones.
    """
    cases = pd.concat(_cases(study), ignore_index=True)
    branches = _typed(pd.concat([pd.DataFrame(columns=list(PREDICTION_COLUMNS)), *_tables(study, outcome)]))
    titles = [SYSTEMS[system][0] for system in study.systems]
    pair = (SYSTEMS[UNIFORM][0], SYSTEMS[SIZE_BALANCED][0])
    protocol: Literal["nested", "paper"] = "paper" if study.protocol == PAPER else "nested"
    found = nested_ensemble(cases, branches, *pair, ENSEMBLE_TITLE, protocol)
    return ClassificationResults(
        protocol=study.words(),
        cases=cases,
        predictions=_typed(pd.concat([branches, found.predictions])),
        systems=(*titles, ENSEMBLE_TITLE) if study.has_ensemble else tuple(titles),
        ensemble=found.ensemble,
        panels=dict(panels or {}),
        failed=tuple(outcome.failed),
        is_paper_protocol=study.protocol == PAPER,
    )


def _cases(study: CapStudy) -> Iterator[pd.DataFrame]:
    yield _scans(study.data, TV)
    if study.test is not None:
        yield _scans(study.test, TEST)


def _scans(data: StudyData, name: str) -> pd.DataFrame:
    keys = ("case_id", "patient_id", "label", "ratio", "fold")
    rows = [
        {"set": name, **{key: scan.get(key) for key in keys}, **further}
        for scan, further in zip(data.cases, data.further, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"label": int, "ratio": float, "fold": int})
    return frame if name == TV else frame.assign(fold=-1)


def _tables(study: CapStudy, outcome: Outcome) -> Iterator[pd.DataFrame]:
    for system in study.systems:
        for fold in study.folds:
            yield from _table(study.evaluation(system, fold), system, TV, fold, outcome)
            if study.test is not None:
                yield from _table(study.test_evaluation(system, fold), system, TEST, fold, outcome)


def _table(run: Run, system: str, name: str, fold: int, outcome: Outcome) -> Iterator[pd.DataFrame]:
    if outcome.has(run):
        table = read_case_table(run.folder / PER_CASE)
        known = table[["case_id", "probability", "attention_dice"]]
        yield known.assign(system=SYSTEMS[system][0], set=name, fold=fold)


def _typed(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[list(PREDICTION_COLUMNS)].astype(PREDICTION_COLUMNS).reset_index(drop=True)
