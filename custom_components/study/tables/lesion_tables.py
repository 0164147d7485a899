"""Scores of a study's networks by lesion class and fold, and a summary of the data set."""

import numpy as np
import pandas as pd
from custom_components.labels import LESION_CLASSES
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.tables.lesion_scores_by_case import (
    METRICS,
    lesion_cell,
    lesion_mean,
    pooled_dice,
    scored_lesions,
)
from custom_components.study.tables.network_tables import AUGMENTED, interval_note, scored_note, table_and_mark
from custom_components.study.tables.table import Cell, Table, joined_notes, mean_cell_of, table_frame

LESION_TITLES = {name: name.replace("_", " ").replace("ground glass", "ground-glass") for name in LESION_CLASSES}

MEAN = "Mean ± sd"
_POOLED = "Dice, pixels pooled"


def data_table(results: SegmentationResults) -> Table:
    """Summary of the data set: cases, groups and cases of each lesion class."""
    groups = results.cases["group"].fillna("").astype(str)
    truth = results.scores[results.scores["pixels_true"] > 0].groupby("lesion")["case_id"].nunique()
    numbers = {
        "Cases": len(results.cases),
        "Groups (patients or blocks of slices)": groups[groups != ""].nunique(),
        "Cases without a group": int((groups == "").sum()),
        "Cases scored": results.scores["case_id"].nunique(),
        **{f"Cases with {title}": int(truth.get(name, 0)) for name, title in LESION_TITLES.items()},
    }
    frame = table_frame({name: {"Number": number} for name, number in numbers.items()}, ["characteristic"])
    note = joined_notes("A case has a class if its truth has it.", scored_note(results, []))
    return Table("data", "The data set", note, frame)


def lesion_table(results: SegmentationResults, protocol: str, resamples: int) -> Table:
    """Scores of each network by lesion class, one row per class, network and augmentation."""
    tables = {
        (network, AUGMENTED[augmented]): table_and_mark(results, network, augmented, protocol)
        for network, augmented in results.trained
    }
    rows = {
        (title, *key): _lesion_cells(table, lesion, resamples, mark)
        for lesion, title in LESION_TITLES.items()
        for key, (table, mark) in tables.items()
    }
    frame = table_frame(rows, ["class", "network", "augmented"])
    how = (
        "Mean over the cases with the class in truth or prediction (cases scored); Dice is 0 if it is in only one of "
        "them. Pixels pooled: pixels of all cases are summed first, so large lesions dominate."
    )
    note = interval_note(results, [results.protocols[protocol], how], frame, resamples, [protocol])
    return Table(f"lesions_{protocol}", f"Scores by lesion class (protocol {protocol})", note, frame)


def lesion_fold_table(results: SegmentationResults, protocol: str) -> Table:
    """Mean Dice of each fold, with mean and standard deviation over folds.

    One row per network and augmentation; a cell is empty if the fold failed.
    """
    scores = results.scores[results.scores["protocol"] == protocol]
    folds = sorted(int(fold) for fold in scores["fold"].unique())
    rows = {
        (network, AUGMENTED[augmented]): _fold_cells(folds, *table_and_mark(results, network, augmented, protocol))
        for network, augmented in results.trained
    }
    frame = table_frame(rows, ["network", "augmented"])
    note = joined_notes(
        results.protocols[protocol],
        "Mean lesion Dice with sample standard deviation over folds; it is not a standard error because folds share "
        "training cases.",
        scored_note(results, [protocol]),
    )
    return Table(f"folds_{protocol}", f"Dice of each fold (protocol {protocol})", note, frame)


def _lesion_cells(table: pd.DataFrame, lesion: str, resamples: int, mark: str) -> dict[str, object]:
    names = (*METRICS.values(), _POOLED, "Cases scored", "Cases with it")
    if table.empty:
        return dict.fromkeys(names, Cell())
    cells = [lesion_cell(table, metric, lesion, resamples, mark) for metric in METRICS]
    scored = int(table[f"dice_{lesion}"].notna().sum())
    pooled = Cell(pooled_dice(table, lesion), n=scored, mark=mark)
    return dict(zip(names, [*cells, pooled, scored, int((table[f"pixels_true_{lesion}"] > 0).sum())], strict=True))


def _fold_cells(folds: list[int], table: pd.DataFrame, mark: str) -> dict[str, object]:
    by_fold = {f"Fold {fold}": _fold_cell(table[table["fold"] == fold]) for fold in folds}
    known = [cell.value for cell in by_fold.values() if not np.isnan(cell.value)]
    return {**by_fold, MEAN: mean_cell_of(known, len(known), mark) if known else Cell()}


def _fold_cell(table: pd.DataFrame) -> Cell:
    if table.empty:
        return Cell()
    return Cell(lesion_mean("dice", scored_lesions(table))(table), n=len(table))
