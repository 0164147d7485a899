"""Scores of one network by case, and the table cells computed from them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from custom_components.labels import LESION_CLASSES
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.statistics.bootstrap import bootstrap_difference, bootstrap_interval
from custom_components.study.statistics.case_statistics import CaseStatistic, mean_of
from custom_components.study.tables.table import Cell, interval_of, levels

# Titles of the paper's three metrics, in the paper's order.
METRICS = {"dice": "Dice", "accuracy": "Accuracy", "precision": "Precision"}

# Unit of the bootstrap: the case's group, or the case itself without a group.
UNIT = "unit"


def scores_by_case(results: SegmentationResults, network: str, augmented: bool, protocol: str) -> pd.DataFrame:
    """Scores of one network, one row per case, sorted.

    Columns: ``case_id``, ``unit``, ``fold``, and for each lesion class ``dice_ground_glass`` and so on,
    ``pixels_true_ground_glass`` and ``pixels_pred_ground_glass``; NaN if a class is in neither truth nor prediction.

    Raises:
        ValueError: if a case is in no datalist or scored twice; the message names it.
    """
    chosen = results.scores_of(network, augmented, protocol)
    _check(chosen, results.cases)
    columns = [*METRICS, "pixels_true", "pixels_pred"]
    wide = chosen.pivot(index=["case_id", "fold"], columns="lesion", values=columns)
    names = [f"{column}_{lesion}" for column in columns for lesion in LESION_CLASSES]
    wide.columns = ["_".join(levels(key)) for key in wide.columns]
    units = results.cases.set_index("case_id")["group"].fillna("").astype(str)
    table = wide.reindex(columns=names).astype(float).sort_index().reset_index()
    unit = table["case_id"].map(units)
    return table.assign(**{UNIT: unit.where(unit != "", table["case_id"])})


def unit_note(results: SegmentationResults) -> str:
    """Description of the bootstrap unit of these cases."""
    known = results.cases["group"].fillna("").astype(str)
    grouped, groups = int((known != "").sum()), known[known != ""].nunique()
    if not grouped:
        return "cases because patients are unknown: too narrow with several slices per patient"
    alone = f" and {len(known) - grouped} cases without a group" if grouped < len(known) else ""
    return f"{groups} groups (patients or blocks of slices){alone}"


def mean_cell(table: pd.DataFrame, metric: str, resamples: int, mark: str = "") -> Cell:
    """Mean over lesion classes of the mean over cases, with interval; empty without cases.

    Classes without cases are excluded. Resamples that lack a remaining class are excluded from the interval because
    their mean would be over different classes.
    """
    if table.empty:
        return Cell()
    return _interval_cell(table, lesion_mean(metric, scored_lesions(table)), resamples, mark)


def lesion_cell(table: pd.DataFrame, metric: str, lesion: str, resamples: int, mark: str = "") -> Cell:
    """Mean over cases for one lesion class, with interval; n is the number of cases in which the class was scored."""
    if table.empty:
        return Cell()
    return _interval_cell(table[table[f"dice_{lesion}"].notna()], mean_of(f"{metric}_{lesion}"), resamples, mark)


def difference_cell(first: pd.DataFrame, second: pd.DataFrame, resamples: int) -> Cell:
    """Mean lesion Dice of the first minus the second network over the cases that both scored, with interval.

    The same cases are drawn for both networks. Classes that both have; empty without a common case.
    """
    shared = sorted(set(first["case_id"]) & set(second["case_id"]))
    if not shared:
        return Cell()
    one, other = (table.set_index("case_id").loc[shared].reset_index() for table in (first, second))
    lesions = [lesion for lesion in scored_lesions(one) if lesion in scored_lesions(other)]
    found = bootstrap_difference(one, other, lesion_mean("dice", lesions), UNIT, resamples)
    return interval_of(found, one[UNIT].nunique(), len(shared))


def lesion_mean(metric: str, lesions: Sequence[str]) -> CaseStatistic:
    """Mean over lesion classes of the mean over cases; undefined if one of the classes has no case.

    Example:
        >>> table = pd.DataFrame({"dice_ground_glass": [0.5, 0.7], "dice_consolidation": [np.nan, 0.2]})
        >>> lesion_mean("dice", ["ground_glass", "consolidation"])(table)
        0.4
    """
    means = [mean_of(f"{metric}_{lesion}") for lesion in lesions]

    def weighted(cases: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
        if not means:
            return np.full(len(weights), np.nan)
        return np.mean([mean.weighted(cases, weights) for mean in means], axis=0)

    return CaseStatistic(f"mean lesion {metric}", weighted)


def scored_lesions(table: pd.DataFrame) -> list[str]:
    """Lesion classes in the truth or prediction of any case."""
    return [lesion for lesion in LESION_CLASSES if table[f"dice_{lesion}"].notna().any()]


def pooled_dice(table: pd.DataFrame, lesion: str) -> float:
    """Dice of one class over the pooled pixels of all cases; NaN without pixels.

    Example:
        >>> pixels = {"pixels_true_ground_glass": [10, 90], "pixels_pred_ground_glass": [10, 90]}
        >>> pooled_dice(pd.DataFrame({"dice_ground_glass": [0.0, 1.0], **pixels}), "ground_glass")
        0.9
    """
    pixels = table[f"pixels_true_{lesion}"] + table[f"pixels_pred_{lesion}"]
    total = float(pixels.sum())
    return float((table[f"dice_{lesion}"].fillna(0) * pixels).sum()) / total if total else np.nan


def _interval_cell(table: pd.DataFrame, statistic: CaseStatistic, resamples: int, mark: str) -> Cell:
    found = bootstrap_interval(table, statistic, UNIT, resamples)
    return interval_of(found, table[UNIT].nunique(), len(table), mark)


def _check(scores: pd.DataFrame, cases: pd.DataFrame) -> None:
    unknown = scores.loc[~scores["case_id"].isin(cases["case_id"]), "case_id"]
    twice = scores.loc[scores.duplicated(["case_id", "lesion"]), "case_id"]
    for wrong, what in ((unknown, "is scored but in no datalist"), (twice, "is scored twice by the same network")):
        if len(wrong):
            raise ValueError(f"Case {wrong.iloc[0]} {what}. Expected the results that the study collects.")
