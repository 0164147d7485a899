"""Systems compared, overall and by size of the infection (Tables II and III of Ouyang et al. 2020)."""

import pandas as pd
from custom_components.infection_size import RATIO_BANDS, ratio_band
from custom_components.study.results.predicted_scans import of_system, sets_of
from custom_components.study.results.study_results import TEST, ClassificationResults
from custom_components.study.tables.demographics_table import CLASS_ROWS
from custom_components.study.tables.missing_predictions import SET_TITLES, joined_notes, mark_of, missing_note
from custom_components.study.tables.model_scores import METRICS, score_cell
from custom_components.study.tables.table import Cell, Table

_AT_HALF = "Accuracy, sensitivity, specificity and the mean F1 of both classes are at a probability of 0.5."
_JOINED = "TV set: the validation folds joined, each scan with the model that left it out."
_SPREAD = "Test set: mean and sample standard deviation over the models of the folds."


def systems_table(results: ClassificationResults, scans: pd.DataFrame) -> Table:
    """Table II: the five scores of each system.

    Args:
        results: of the study.
        scans: its predictions, as :func:`custom_components.study.results.predicted_scans.predicted_scans` joins them.

    Returns:
        Rows of a score and a system, a column a set.
    """
    sets = sets_of(results)
    rows = {
        (title, system): [_cell(results, scans, name, system, metric) for name in sets]
        for metric, title in METRICS.items()
        for system in results.systems
    }
    frame = _frame(rows, pd.Index([SET_TITLES[name] for name in sets], name="set"))
    title = "Table II. Classification by different systems"
    return Table("table_2_systems", title, _note(results, scans), frame)


def ratio_table(results: ClassificationResults, scans: pd.DataFrame) -> Table:
    """Table III: the same by the ratio of infection to lung.

    Args:
        results: of the study.
        scans: its predictions.

    Returns:
        Rows of a score and a system below those of the counts, a column a set and band.
    """
    sets = sets_of(results)
    keys = [(name, band) for name in sets for band in RATIO_BANDS]
    cases = results.cases.assign(ratio_band=results.cases["ratio"].map(ratio_band))
    rows: dict[tuple[str, str], list[object]] = {
        ("No. of images", name): [_images(cases, key, labels) for key in keys] for name, labels in CLASS_ROWS.items()
    }
    rows |= {
        (title, system): [_cell(results, scans, name, system, metric, band) for name, band in keys]
        for metric, title in METRICS.items()
        for system in results.systems
    }
    columns = pd.MultiIndex.from_tuples([(SET_TITLES[name], band) for name, band in keys], names=["set", "ratio"])
    unknown = int(results.cases["ratio"].isna().sum())
    without = f"{unknown} scans of unknown ratio are in no group." if unknown else ""
    title = "Table III. Classification by the ratio of infection to lung"
    return Table("table_3_ratio_groups", title, joined_notes(_note(results, scans), without), _frame(rows, columns))


def _cell(
    results: ClassificationResults, scans: pd.DataFrame, name: str, system: str, metric: str, band: str = ""
) -> Cell:
    predicted = of_system(scans, name, system)
    chosen = predicted[predicted["ratio_band"] == band] if band else predicted
    is_empty_band = chosen.empty and not predicted.empty
    return Cell(n=0) if is_empty_band else score_cell(chosen, metric, mark_of(results, name, system))


def _images(cases: pd.DataFrame, key: tuple[str, str], labels: tuple[int, ...]) -> int:
    name, band = key
    return int(((cases["set"] == name) & (cases["ratio_band"] == band) & cases["label"].isin(labels)).sum())


def _frame(rows: dict, columns: pd.Index) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(rows, names=["result", "system"])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns, dtype=object)


def _note(results: ClassificationResults, scans: pd.DataFrame) -> str:
    spread = _SPREAD if TEST in sets_of(results) else "There is no test set."
    return joined_notes(_AT_HALF, _JOINED, spread, missing_note(results, scans))
