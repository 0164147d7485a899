"""Tables of each system: scores overall and by infection size, calibration, attention and ensemble weights.

Tables II and III and the parameters of Eq. 5 of Ouyang et al. 2020.
"""

import pandas as pd
from custom_components.infection_size import COVID, RATIO_BANDS, ratio_band
from custom_components.study.results.study_results import TEST, ClassificationResults
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.calibration import NUM_BINS, brier_score, expected_calibration_error
from custom_components.study.statistics.case_statistics import mean_of
from custom_components.study.tables.demographics_table import CLASS_ROWS
from custom_components.study.tables.model_scores import (
    METRICS,
    SET_TITLES,
    is_joined,
    mark_of,
    missing_note,
    rows_by_system,
    score_cell,
)
from custom_components.study.tables.table import (
    DASH,
    Cell,
    Table,
    failed_note,
    interval_of,
    joined_notes,
    mean_cell_of,
    table_frame,
)

_AT_HALF = "Accuracy, sensitivity, specificity and the mean F1 of both classes use a threshold of 0.5."
_JOINED = "TV set: validation folds pooled, each scan scored by the model that was not trained on it."
_SPREAD = "Test set: mean and sample standard deviation over the fold models."
_CALIBRATION = (
    "ECE, equal width",
    "ECE, equal counts",
    "Brier score",
    "Mean probability",
    "Share of COVID-19",
    "Scans",
)
_IMAGES = ["set", "ratio_band", "label"]
_RULE = {
    "w_outside": ("w outside", 2),
    "w_inside": ("w inside", 2),
    "low": ("inside from ratio", 4),
    "high": ("inside to ratio", 4),
    "auc": ("AUC where searched", 3),
}


def systems_table(results: ClassificationResults) -> Table:
    """Table II: the five scores of each system, one row per score and system, one column per set."""
    rows = {
        (title, system): {SET_TITLES[name]: _cell(results, name, system, metric) for name in results.sets}
        for metric, title in METRICS.items()
        for system in results.systems
    }
    frame = table_frame(rows, ["result", "system"]).rename_axis(columns="set")
    return Table("table_2_systems", "Table II. Classification by different systems", _note(results), frame)


def ratio_table(results: ClassificationResults) -> Table:
    """Table III: numbers of images and the five scores by infection ratio, one column per set and band."""
    keys = {(SET_TITLES[name], band): (name, band) for name in results.sets for band in RATIO_BANDS}
    images = results.cases.assign(ratio_band=results.cases["ratio"].map(ratio_band)).value_counts(_IMAGES)
    rows: dict[tuple[str, str], dict[tuple[str, str], object]] = {
        ("No. of images", name): {
            column: sum(int(images.get((*key, label), 0)) for label in labels) for column, key in keys.items()
        }
        for name, labels in CLASS_ROWS.items()
    }
    rows |= {
        (title, system): {column: _cell(results, name, system, metric, band) for column, (name, band) in keys.items()}
        for metric, title in METRICS.items()
        for system in results.systems
    }
    frame = table_frame(rows, ["result", "system"], pd.MultiIndex.from_tuples(keys, names=["set", "ratio"]))
    unknown = int(results.cases["ratio"].isna().sum())
    without = f"{unknown} scans with unknown ratio are in no group." if unknown else ""
    title = "Table III. Classification by the ratio of infection to lung"
    return Table("table_3_ratio_groups", title, joined_notes(_note(results), without), frame)


def calibration_table(results: ClassificationResults) -> Table:
    """Expected calibration error and Brier score, one row per set and system."""
    rows = rows_by_system(results, _calibration_cells)
    note = joined_notes(
        f"ECE: mean over the scans of |mean probability - share of COVID-19| of their bin, {NUM_BINS} bins; with "
        "few scans it is above 0 even for perfect predictions. Brier score: mean squared difference of probability and "
        "class; 0.25 for a constant 0.5. TV set: folds pooled; test set: mean ± sample standard deviation over the "
        "fold models.",
        missing_note(results),
    )
    return Table("calibration", "Calibration", note, table_frame(rows, ["set", "system"], _CALIBRATION))


def attention_table(results: ClassificationResults, resamples: int) -> Table:
    """Dice of attention and infection over COVID-19 scans; no rows for systems without attention."""
    found = rows_by_system(results, lambda scans, _: _attention_cells(scans.query(f"label == {COVID}"), resamples))
    rows = {key: cells for key, cells in found.items() if cells}
    note = joined_notes(
        "Dice of the attention, thresholded at 0.5 after Eq. 2, and the infection mask, over COVID-19 scans (only "
        f"these have an attention loss). Mean with 95 % interval: percentiles of {resamples} bootstrap resamples of "
        "patients; test set: mean over the fold models.",
        missing_note(results, results.scans[results.scans["system"].isin({system for _, system in rows})]),
    )
    return Table("attention_overlap", "Attention and infection", note, table_frame(rows, ["set", "system"]))


def ensemble_table(results: ClassificationResults) -> Table:
    """Weights and thresholds of the ensemble, one row per set and fold that they were applied to."""
    rows = {
        (title, str(int(row["fold"]))): {
            column: DASH if pd.isna(row[key]) else Cell(float(row[key]), digits=digits)  # a dash if nothing was found
            for key, (column, digits) in _RULE.items()
        }
        for name, title in SET_TITLES.items()
        for _, row in results.ensemble[results.ensemble["set"] == name].sort_values("fold").iterrows()
    }
    note = joined_notes(
        "P = w P_US + (1 - w) P_SS, with w inside if the infection ratio is between the thresholds (inclusive), "
        "otherwise w outside. The AUC is on the scans used for the search, so it is optimistic. The paper found "
        "w outside 0.35, w inside 0.96, from 0.001 to 0.030.",
        " ".join(results.protocols.values()),
        failed_note(results.failed),
    )
    return Table("ensemble", "Weights of the ensemble", note, table_frame(rows, ["applied to", "fold"]))


def _cell(results: ClassificationResults, name: str, system: str, metric: str, band: str = "") -> Cell:
    predicted = results.of_system(name, system)
    chosen = predicted[predicted["ratio_band"] == band] if band else predicted
    is_empty_band = chosen.empty and not predicted.empty
    return Cell(n=0) if is_empty_band else score_cell(chosen, metric, mark_of(results, name, system))


def _note(results: ClassificationResults) -> str:
    spread = _SPREAD if TEST in results.sets else "There is no test set."
    return joined_notes(_AT_HALF, _JOINED, spread, missing_note(results))


def _calibration_cells(scans: pd.DataFrame, mark: str) -> dict[str, object]:
    known = scans.dropna(subset="probability")
    if known.empty:
        return dict.fromkeys(_CALIBRATION, Cell(n=None if scans.empty else 0))
    models = [known] if is_joined(scans) else [rows for _, rows in known.groupby("fold")]
    cases = known.drop_duplicates("case_id")
    cells = [mean_cell_of(values, len(cases), mark) for values in zip(*map(_scores, models), strict=True)]
    share = Cell(float(cases["label"].mean()), n=len(cases), mark=mark)
    return dict(zip(_CALIBRATION, [*cells, share, len(cases)], strict=True))


def _scores(rows: pd.DataFrame) -> list[float]:
    labels, probabilities = rows["label"], rows["probability"]
    return [
        expected_calibration_error(labels, probabilities, NUM_BINS, "uniform"),
        expected_calibration_error(labels, probabilities, NUM_BINS, "quantile"),
        brier_score(labels, probabilities),
        float(probabilities.mean()),
    ]


def _attention_cells(scans: pd.DataFrame, resamples: int) -> dict[str, object]:
    by_case = scans.groupby(["case_id", "patient_id"])["attention_dice"].mean().dropna().reset_index()
    if by_case.empty:
        return {}
    found = bootstrap_interval(by_case, mean_of("attention_dice"), resamples=resamples)
    dice = interval_of(found, by_case["patient_id"].nunique(), len(by_case))
    return {"Dice": dice, "Scans": len(by_case)}
