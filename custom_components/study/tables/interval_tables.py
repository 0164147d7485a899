"""Confidence intervals of a study's scores: overall, by fold and by subgroup."""

from collections.abc import Iterator

import pandas as pd
from custom_components.study.results.study_results import TEST, TV, ClassificationResults
from custom_components.study.results.subgroups import can_group_by, split_subgroups
from custom_components.study.statistics.case_statistics import CASE_STATISTICS
from custom_components.study.tables.demographics_table import descriptive_columns
from custom_components.study.tables.model_scores import (
    METRICS,
    SET_TITLES,
    delong_cell,
    interval_cell,
    is_joined,
    mark_of,
    missing_note,
    rows_by_system,
)
from custom_components.study.tables.table import Cell, Table, joined_notes, table_frame, undefined_note

# Scores shown by subgroup.
GROUP_METRICS = ("auc", "sensitivity", "specificity", "accuracy")

_DELONG = "DeLong's interval assumes independent scans: one scan per patient. The bootstrap draws patients."
_FEW = (
    "A bootstrap interval is too narrow with fewer than about 20 patients and has zero width if all scans agree: "
    "this is a limit of resampling, not certainty."
)


def interval_table(results: ClassificationResults, resamples: int) -> Table:
    """Scores of each system with 95 % intervals, one row per set and system."""
    rows = rows_by_system(results, lambda scans, mark: _interval_cells(scans, resamples, mark))
    frame = table_frame(rows, ["set", "system"])
    note = joined_notes(
        f"95 % intervals: DeLong's where stated, otherwise percentiles of {resamples} bootstrap resamples of patients.",
        _DELONG,
        "Test set: mean over the fold models; DeLong's interval of each is in the table of folds."
        if TEST in results.sets
        else "",
        _FEW,
        undefined_note(frame),
        missing_note(results),
    )
    return Table("intervals", "Scores with 95 % intervals", note, frame)


def fold_table(results: ClassificationResults) -> Table:
    """Scores of each fold model, one row per set, fold and system; rows of failed folds are empty."""
    rows = {
        (SET_TITLES[name], str(fold), system): _fold_cells(results.of_system(name, system).query(f"fold == {fold}"))
        for name in results.sets
        for fold in results.folds
        for system in results.systems
    }
    note = joined_notes(
        "Each model is scored separately: on its validation fold (TV set) and on the whole test set.",
        "AUC with DeLong's 95 % interval.",
        missing_note(results),
    )
    return Table("folds", "Scores of each fold", note, table_frame(rows, ["set", "fold", "system"]))


def subgroup_tables(results: ClassificationResults, resamples: int) -> Iterator[tuple[str, Table]]:
    """Scores of the last system by subgroup: all scans, infection ratio, and each additional datalist column.

    Yields each set with its table: one row per column and group.
    """
    system = results.systems[-1]
    for name in results.sets:
        chosen = results.of_system(name, system)
        if chosen.empty:
            continue
        columns = [column for column in ("ratio", *descriptive_columns(results.cases)) if can_group_by(chosen, column)]
        groups = {("", "all scans"): chosen}
        groups |= {(c, group): rows for c in columns for group, rows in split_subgroups(chosen, c).items()}
        mark = mark_of(results, name, system)
        cells = {key: _group_cells(rows, resamples, mark) for key, rows in groups.items()}
        frame = table_frame(cells, ["by", "group"])
        note = joined_notes(_group_note(name, resamples), undefined_note(frame), missing_note(results, chosen))
        title = f"Scores of {system} by group, {SET_TITLES[name]}"
        yield name, Table(f"subgroups_{name}", title, note, frame)


def _interval_cells(scans: pd.DataFrame, resamples: int, mark: str) -> dict[str, object]:
    known = scans.dropna(subset="probability")
    return {
        "AUC (DeLong)": delong_cell(scans, mark) if is_joined(scans) else Cell(),
        **{title: interval_cell(scans, CASE_STATISTICS[metric], resamples, mark) for metric, title in METRICS.items()},
        "Scans": known["case_id"].nunique(),
        "Patients": known["patient_id"].nunique(),
    }


def _fold_cells(rows: pd.DataFrame) -> dict[str, object]:
    if rows.empty:
        return {**dict.fromkeys(METRICS.values(), Cell()), "Scans": Cell()}
    known = rows.dropna(subset="probability")
    scores = {title: Cell(CASE_STATISTICS[metric](known), n=len(known)) for metric, title in METRICS.items()}
    return {**scores, METRICS["auc"]: delong_cell(rows), "Scans": len(known)}


def _group_cells(rows: pd.DataFrame, resamples: int, mark: str) -> dict[str, object]:
    known = rows.dropna(subset="probability").drop_duplicates("case_id")
    counts = {"COVID-19": int((known["label"] == 1).sum()), "CAP": int((known["label"] == 0).sum())}
    if known.empty:
        return {**counts, **{METRICS[metric]: Cell(n=0) for metric in GROUP_METRICS}}
    cells = {METRICS[metric]: interval_cell(rows, CASE_STATISTICS[metric], resamples, mark) for metric in GROUP_METRICS}
    if is_joined(rows):
        cells[METRICS["auc"]] = delong_cell(rows, mark)
    return {**counts, **cells}


def _group_note(name: str, resamples: int) -> str:
    auc = "AUC with DeLong's 95 % interval, otherwise" if name == TV else "Mean over the fold models;"
    return (
        f"{auc} percentiles of {resamples} bootstrap resamples of patients. Scans of unknown group are excluded. "
        f"{_FEW} Groups were not pre-specified: single outlying groups may be due to chance."
    )
