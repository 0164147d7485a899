"""Whether probabilities of a study's systems come true."""

import numpy as np
import pandas as pd
from custom_components.study.results.predicted_scans import of_system, sets_of
from custom_components.study.results.study_results import TV, ClassificationResults
from custom_components.study.statistics.calibration import NUM_BINS, brier_score, expected_calibration_error
from custom_components.study.tables.missing_predictions import SET_TITLES, joined_notes, mark_of, missing_note
from custom_components.study.tables.table import Cell, Table, table_frame

_COLUMNS = ("ECE, equal width", "ECE, equal counts", "Brier score", "Mean probability", "Share of COVID-19", "Scans")


def calibration_table(results: ClassificationResults, scans: pd.DataFrame) -> Table:
    """Expected calibration error and Brier score of each system.

    Args:
        results: of the study.
        scans: its predictions, as :func:`custom_components.study.results.predicted_scans.predicted_scans` joins them.

    Returns:
        Rows of a set and a system.
    """
    rows = {}
    for name in sets_of(results):
        for system in results.systems:
            chosen = of_system(scans, name, system)
            rows[SET_TITLES[name], system] = _cells(chosen, name == TV, mark_of(results, name, system))
    note = joined_notes(
        f"ECE: mean over the scans of |mean probability - share of COVID-19| of their bin, {NUM_BINS} bins; with few "
        "scans it is above 0 for a perfect forecast too. Brier score: mean squared difference of probability and "
        "class; 0.25 for a constant 0.5. TV set: folds joined; test set: mean ± sample standard deviation over the "
        "models of the folds.",
        missing_note(results, scans),
    )
    return Table("calibration", "Calibration", note, table_frame(rows, ["set", "system"], _COLUMNS))


def _cells(scans: pd.DataFrame, joined: bool, mark: str) -> dict[str, object]:
    known = scans.dropna(subset="probability")
    if known.empty:
        return dict.fromkeys(_COLUMNS, Cell(n=None if scans.empty else 0))
    models = [known] if joined else [rows for _, rows in known.groupby("fold")]
    cases = known.drop_duplicates("case_id")
    cells = [_over_models(values, mark, len(cases)) for values in zip(*map(_scores, models), strict=True)]
    share = Cell(float(cases["label"].mean()), n=len(cases), mark=mark)
    return dict(zip(_COLUMNS, [*cells, share, len(cases)], strict=True))


def _scores(rows: pd.DataFrame) -> list[float]:
    labels, probabilities = rows["label"], rows["probability"]
    return [
        expected_calibration_error(labels, probabilities, NUM_BINS, "uniform"),
        expected_calibration_error(labels, probabilities, NUM_BINS, "quantile"),
        brier_score(labels, probabilities),
        float(probabilities.mean()),
    ]


def _over_models(values: tuple[float, ...], mark: str, count: int) -> Cell:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
    return Cell(float(np.mean(values)), sd=spread, n=count, mark=mark)
