"""Evaluations of several folds as one table: each case scored by the network that had not seen it."""

from pathlib import Path

import pandas as pd
from custom_components.labels import LESION_CLASSES
from custom_components.study.results.study_results import read_case_table
from custom_components.study.tables.lesion_scores_by_case import METRICS, UNIT, lesion_cell, mean_cell, pooled_dice
from custom_components.study.tables.table import Cell

_COLUMNS = (*METRICS, "pixels_true", "pixels_pred")


def joined_scores(*evaluations: str, resamples: int = 2000) -> str:
    """Join the scores of covid_seg_bundle's evaluations, such as those of all folds, in a Markdown table.

    Args:
        evaluations: their output folders, in each of which `evaluating` wrote `per_case.csv`.
        resamples: of the bootstrap over cases.

    Returns:
        A row for each lesion class and one for their mean: means over the cases with 95 % bootstrap intervals, Dice of
        the pixels of all cases together, cases scored.

    Raises:
        ValueError: when a folder has no scores, or a case is in two of them.
    """
    if not evaluations:
        raise ValueError("No evaluation was given. Name the output folders of `evaluating`, one for each fold.")
    table = pd.concat([_scores(Path(folder)) for folder in evaluations], ignore_index=True)
    twice = table["case_id"][table["case_id"].duplicated()]
    if len(twice):
        raise ValueError(
            f"Case {twice.iloc[0]} is in two of the evaluations. Give evaluations of different folds, each once."
        )
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
            f"{len(table)} cases of {len(evaluations)} evaluations; 95 % bootstrap intervals over cases, which are too "
            "narrow where several are of one patient.",
        ]
    )


def _scores(folder: Path) -> pd.DataFrame:
    path = folder / "per_case.csv"
    try:
        table = read_case_table(path)
        return table[["case_id", *(f"{metric}_{lesion}" for metric in _COLUMNS for lesion in LESION_CLASSES)]]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} holds no scores of lesion classes ({error}). Expected the output folder of covid_seg_bundle's "
            "`evaluating`."
        ) from error


def _lesion(table: pd.DataFrame, lesion: str, resamples: int) -> list[object]:
    cells = [lesion_cell(table, metric, lesion, resamples) for metric in METRICS]
    pooled, scored = Cell(pooled_dice(table, lesion)), int(table[f"dice_{lesion}"].notna().sum())
    return [lesion.replace("_", " "), *cells, pooled, scored]


def _line(cells: list) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
