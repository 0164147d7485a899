"""Scores of evaluations as Markdown tables."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custom_components.infection_size import RATIO_BANDS, SIZE_GROUPS
from custom_components.labels import LESION_CLASSES

SCORES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "macro_f1": "macro-F1",
}
_LESION_SCORES = {"dice": "Dice", "precision": "precision", "accuracy": "accuracy"}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of a Markdown table.

    Example:
        >>> print(markdown_table(["class", "Dice"], [["lung", "0.978"]]))
        | class | Dice |
        |---|---|
        | lung | 0.978 |
    """
    lines = [head, *rows]
    text = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([text[0], "|---" * len(head) + "|", *text[1:]])


def cell(score: float | None, digits: int = 3) -> str:
    """Format a score; a dash if undefined."""
    return "-" if score is None else f"{score:.{digits}f}"


def score_table(summary: str | Path) -> str:
    """Scores of an evaluation as a Markdown table.

    Args:
        summary: ``summary.json`` that `evaluating` of ``covid_seg_bundle`` wrote.

    Returns:
        One row per lesion class and one for their mean; a dash if no case has the class.

    Raises:
        ValueError: if the file is missing or not a summary.
    """
    with _summary(Path(summary)) as scores:
        counts = scores["cases_with_class"]
        rows = [
            [name.replace("_", " "), *(cell(scores[score][name]) for score in _LESION_SCORES), counts.get(name, "")]
            for name in (*LESION_CLASSES, "mean")
        ]
        note = f"{scores['cases']} cases; split: {scores['protocol'] or 'not stated'}"
    return f"{markdown_table(['class', *_LESION_SCORES.values(), 'cases'], rows)}\n\n{note}"


def diagnosis_table(*summaries: str | Path) -> str:
    """Scores of one or more evaluations of the classifier as Markdown, in the form of the paper's Table II.

    Args:
        summaries: ``summary.json`` files that `evaluating` wrote. One alone has the name of its system, several
            have those of their folders.

    Returns:
        For all scans, each band of the infection ratio and each size group, one row per evaluation; a dash if a score
        is undefined, such as an AUC with one class. An ensemble's row follows those of its branches. An evaluation with
        three classes has a table of its own: the confusion matrix, with the sensitivity and the AUC of each class.

    Raises:
        ValueError: if no file is given, or a file is missing or not such a summary.
    """
    if not summaries:
        raise ValueError("No summary was given. Give one or more summary.json files of `evaluating`.")
    rows: list[list[object]] = []
    three_classes: list[str] = []
    for path in map(Path, summaries):
        with _summary(path) as scores:
            name = path.parent.name if len(summaries) > 1 else scores.get("system", path.parent.name)
            if "confusion_matrix" in scores:
                three_classes.append(_three_class_table(name, scores))
            else:
                rows += _rows(name, scores)
    return "\n\n".join([*([_two_class_table(rows)] if rows else []), *three_classes])


def _two_class_table(rows: Sequence[Sequence[object]]) -> str:
    groups = list(dict.fromkeys(row[0] for row in rows))
    head = ["infection ratio or size group", "system", "scans", "COVID-19 / CAP", *SCORES.values()]
    return markdown_table(head, sorted(rows, key=lambda row: groups.index(row[0])))


def _rows(folder: str, summary: Mapping[str, Any]) -> list[list[object]]:
    """Rows of the branches and of the ensemble of one evaluation, group by group."""
    systems = {f"{folder}: {name}": scores for name, scores in summary["branches"].items()} | {folder: summary}
    rows: list[list[object]] = []
    for name, scores in systems.items():
        groups = {"all": scores["overall"]}
        groups |= {band: scores["by_ratio"][band] for band in RATIO_BANDS}
        groups |= {group: scores["by_size_group"][group] for group in SIZE_GROUPS}
        for title, found in groups.items():
            counts = [found["n"], f"{found['n_covid']} / {found['n_cap']}"]
            rows.append([title, name, *counts, *(cell(found[score]) for score in SCORES)])
    return rows


def _three_class_table(folder: str, summary: Mapping[str, Any]) -> str:
    """Confusion matrix of an evaluation with three classes, with the scores of each class."""
    matrix = summary["confusion_matrix"]
    rows = [
        [name, *own.values(), summary["n"][name], cell(summary["sensitivity"][name]), cell(summary["auc"][name])]
        for name, own in matrix.items()
    ]
    head = ["true class", *(f"called {name}" for name in matrix), "scans", "sensitivity", "AUC against the rest"]
    note = f"{folder}: accuracy {cell(summary['accuracy'])}, macro AUC {cell(summary['macro_auc'])}"
    return f"{markdown_table(head, rows)}\n\n{note}"


@contextmanager
def _summary(path: Path) -> Iterator[Any]:
    """Load a summary; errors while it is used name the file and the remedy."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {found}. Give the summary.json that `evaluating` wrote into its output_dir.")
    try:
        yield json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a summary.json of an evaluation ({error}). Run `evaluating` first.") from error
