"""What the search of a study's ensemble found (Eq. 5 of Ouyang et al. 2020)."""

import pandas as pd
from custom_components.study.results.study_results import ClassificationResults
from custom_components.study.tables.missing_predictions import SET_TITLES, failed_note, joined_notes
from custom_components.study.tables.table import DASH, Cell, Table, table_frame

_COLUMNS = {
    "w_outside": ("w outside", 2),
    "w_inside": ("w inside", 2),
    "low": ("inside from ratio", 4),
    "high": ("inside to ratio", 4),
    "auc": ("AUC where searched", 3),
}


def ensemble_table(results: ClassificationResults) -> Table:
    """Weights and thresholds of the ensemble, one row for each set and fold that they were applied to.

    Args:
        results: of the study.

    Returns:
        The table; without rows when there was no search.
    """
    rows = {
        (title, str(int(row["fold"]))): {column: _cell(row[key], digits) for key, (column, digits) in _COLUMNS.items()}
        for name, title in SET_TITLES.items()
        for _, row in results.ensemble[results.ensemble["set"] == name].sort_values("fold").iterrows()
    }
    note = joined_notes(
        "P = w P_US + (1 - w) P_SS, with w inside where the infection ratio lies between the thresholds, both "
        "included, and w outside elsewhere. The AUC is that of the scans it was searched on, hence optimistic. The "
        "paper found w outside 0.35, w inside 0.96, from 0.001 to 0.030.",
        results.protocol,
        failed_note(results.failed),
    )
    return Table("ensemble", "Weights of the ensemble", note, table_frame(rows, ["applied to", "fold"]))


def _cell(value: float, digits: int) -> Cell | str:
    """A dash where the search found nothing, such as with one class alone."""
    return DASH if pd.isna(value) else Cell(float(value), digits=digits)
