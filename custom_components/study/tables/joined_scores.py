"""Join the evaluations of several folds: each case is scored by a network not trained on it."""

from pathlib import Path

import pandas as pd
from custom_components.labels import LESION_CLASSES
from custom_components.study.results.study_results import read_case_table
from custom_components.study.tables.lesion_scores_by_case import METRICS, UNIT, lesion_cell, mean_cell, pooled_dice
from custom_components.study.tables.table import Cell

_COLUMNS = (*METRICS, "pixels_true", "pixels_pred")


def joined_scores(*evaluations: str, resamples: int = 2000) -> str:
    """Join evaluations of covid_seg_bundle, such as those of all folds, in a Markdown table.

    Args:
        evaluations: output folders of `evaluating`, each with `per_case.csv`.
        resamples: number of bootstrap resamples of cases.

    Returns:
        One row per lesion class and one for their mean: means over cases with 95 % bootstrap intervals, Dice of the
        pooled pixels of all cases, number of scored cases.

    Raises:
        ValueError: if a folder has no scores, or a case is in two folders.
    """
    if not evaluations:
        raise ValueError("No evaluation was given. Give the output folders of `evaluating`, one per fold.")
    table = pd.concat([_scores(Path(folder)) for folder in evaluations], ignore_index=True)
    twice = table["case_id"][table["case_id"].duplicated()]
    if len(twice):
        raise ValueError(f"Case {twice.iloc[0]} is in two of the evaluations. Give each fold's evaluation once.")
    table = table.assign(**{UNIT: table["case_id"]})
    lines = [_line(_lesion(table, lesion, resamples)) for lesion in LESION_CLASSES]
    mean = [mean_cell(table, metric, resamples) for metric in METRICS]
    head = ["class", *METRICS.values(), "pooled Dice", "cases scored"]
    return "\n".join(
        [
            _line(head),
            "|---" * len(head) + "|",
            *lines,
            _line(["mean", *mean, "", ""]),
            "",
            f"{len(table)} cases of {len(evaluations)} evaluations; 95 % bootstrap intervals over cases, too narrow if "
            "several cases are of one patient.",
        ]
    )


def _scores(folder: Path) -> pd.DataFrame:
    path = folder / "per_case.csv"
    try:
        table = read_case_table(path)
        return table[["case_id", *(f"{metric}_{lesion}" for metric in _COLUMNS for lesion in LESION_CLASSES)]]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} contains no lesion class scores ({error}). Expected the output folder of `evaluating` of "
            "covid_seg_bundle."
        ) from error


def _lesion(table: pd.DataFrame, lesion: str, resamples: int) -> list[object]:
    cells = [lesion_cell(table, metric, lesion, resamples) for metric in METRICS]
    pooled, scored = Cell(pooled_dice(table, lesion)), int(table[f"dice_{lesion}"].notna().sum())
    return [lesion.replace("_", " "), *cells, pooled, scored]


def _line(cells: list) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
