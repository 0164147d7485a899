"""Table cells with one system's scores (folds pooled or per fold model), and notes on missing results."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from custom_components.study.results.study_results import TEST, TV, ClassificationResults
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.case_statistics import CASE_STATISTICS, CaseStatistic
from custom_components.study.statistics.delong import delong_interval
from custom_components.study.tables.table import INCOMPLETE, Cell, failed_note, interval_of, joined_notes, mean_cell_of

SET_TITLES = {TV: "TV set", TEST: "Test set"}

# Titles of the paper's five metrics, in the paper's order.
METRICS = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "macro_f1": "F1-score",
}


def score_cell(scans: pd.DataFrame, metric: str, mark: str = "") -> Cell:
    """Score of one system in one set, in the format of the paper's tables.

    Cross-validation: all folds pooled. Test set: mean and sample standard deviation over the fold models. The cell is
    empty without predictions, and a dash with the number of scans if the score is undefined.
    """
    if scans.empty:
        return Cell()
    statistic, known = CASE_STATISTICS[metric], scans.dropna(subset="probability")
    count = known["case_id"].nunique()
    if is_joined(scans):
        return Cell(statistic(known), n=count, mark=mark)
    return mean_cell_of([statistic(rows) for _, rows in known.groupby("fold")], count, mark)


def fold_scores(results: ClassificationResults, name: str, system: str, metric: str, band: str = "") -> pd.Series:
    """Score of each fold model alone, by fold; NaN if it is undefined or the fold has no predictions.

    ``band`` selects the scans of a ratio band; all scans if empty.
    """
    known = results.of_system(name, system).dropna(subset="probability")
    known = known[known["ratio_band"] == band] if band else known
    scores = {fold: CASE_STATISTICS[metric](known[known["fold"] == fold]) for fold in results.folds}
    return pd.Series(scores, dtype=float)


def rows_by_system(
    results: ClassificationResults, cells: Callable[[pd.DataFrame, str], dict[str, object]]
) -> dict[tuple[str, str], dict[str, object]]:
    """Rows of a table by set and system, from the system's scans and its footnote mark."""
    return {
        (SET_TITLES[name], system): cells(results.of_system(name, system), mark_of(results, name, system))
        for name in results.sets
        for system in results.systems
    }


def interval_cell(scans: pd.DataFrame, metric: CaseStatistic, resamples: int, mark: str = "") -> Cell:
    """Score of one system in one set with bootstrap interval by patient; on a test set, the mean over the fold models.

    Scans without a probability from every model are excluded.
    """
    if scans.empty:
        return Cell()
    cases, models = by_model(scans)
    interval = bootstrap_interval(cases, mean_over_models(metric, models), resamples=resamples)
    return interval_of(interval, cases["patient_id"].nunique(), len(cases), mark)


def delong_cell(scans: pd.DataFrame, mark: str = "") -> Cell:
    """AUC of one model, or of all folds pooled, with DeLong's interval; a dash if a class is missing."""
    known = scans.dropna(subset="probability")
    if known["label"].nunique() < 2:
        return Cell(n=None if scans.empty else len(known), mark=mark if len(scans) else "")
    found = delong_interval(known["label"], known["probability"])
    return Cell(found.auc, found.low, found.high, n=len(known), mark=mark)


def by_model(scans: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Reshape the predictions of one system in one set to one row per scan.

    Returns:
        Table with ``case_id``, ``patient_id``, ``label`` and one probability column per model, sorted by case; scans
        with a missing probability are excluded. Then the names of these columns; a single one if folds are pooled.
    """
    column = "joined" if is_joined(scans) else "fold"
    named = scans.assign(joined="joined").astype({column: str})
    wide = named.pivot(index=["case_id", "patient_id", "label"], columns=column, values="probability")
    wide.columns = [f"model {name}" for name in wide.columns]
    return wide.dropna().sort_index().reset_index(), list(wide.columns)


def mean_over_models(statistic: CaseStatistic, models: list[str]) -> CaseStatistic:
    """Mean of a statistic over models that scored the same scans, for a table from :func:`by_model`.

    Example:
        >>> cases = pd.DataFrame({"label": [1, 0], "first": [0.9, 0.1], "second": [0.9, 0.8]})
        >>> mean_over_models(CASE_STATISTICS["accuracy"], ["first", "second"])(cases)
        0.75
    """

    def weighted(cases: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
        scores = [statistic.weighted(cases.assign(probability=cases[model]), weights) for model in models]
        return np.mean(scores, axis=0)

    return CaseStatistic(f"mean {statistic.name}", weighted)


def is_joined(scans: pd.DataFrame) -> bool:
    """Whether each scan has a single model, that of its fold."""
    return bool((scans["set"] == TV).all())


def mark_of(results: ClassificationResults, name: str, system: str) -> str:
    """Footnote mark for a system with a missing fold in a set; empty if none is missing."""
    return INCOMPLETE if (name, system) in results.missing_models else ""


def missing_note(results: ClassificationResults, scans: pd.DataFrame | None = None) -> str:
    """Sentences on folds and scans missing from a table of these scans, or of all; empty if none is missing."""
    return joined_notes(
        *_without_folds(results),
        failed_note(results.failed),
        *_without_probability(results.scans if scans is None else scans),
    )


def _without_folds(results: ClassificationResults) -> Iterator[str]:
    missing = results.missing_models
    for system in dict.fromkeys(system for _, system in missing):
        where = [
            f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))} ({SET_TITLES[name]})"
            for (name, other), folds in missing.items()
            if other == system
        ]
        yield f"{INCOMPLETE} {system} has no results for {' and '.join(where)}."


def _without_probability(scans: pd.DataFrame) -> Iterator[str]:
    for system, rows in scans.groupby("system", sort=False):
        known = rows.assign(missing=rows["probability"].isna()).groupby(["set", "case_id"], sort=False)["missing"].any()
        where = [
            f"{int(missing.sum())} of {len(missing)} scans ({SET_TITLES[str(name)]})"
            for name, missing in known.groupby("set", sort=False)
            if missing.any()
        ]
        if where:
            yield f"{system} has no probability for {' and '.join(where)}: excluded."
