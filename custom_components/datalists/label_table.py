"""Read a data set's table of labels: a CSV with one row per scan."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.datalists.datalist_file import path_inside
from custom_components.datalists.scans import PATH_KEYS, class_label, fold_number

REQUIRED_COLUMNS = ("case_id", "label")
# Columns that must have a value in every row, if present.
NEEDED_VALUES = (*REQUIRED_COLUMNS, "fold", *PATH_KEYS)

# Longest whole number that is read, in digits.
MOST_DIGITS = 9

COMPUTED_COLUMNS = ("ratio", "group")


@dataclass(frozen=True)
class LabelTable:
    """Content of a table of labels.

    Args:
        name: file name of the table.
        columns: names of its columns.
        cases: valid rows: ``label`` 1 or 0, ``fold`` a number, absolute paths, other values as text.
        case_ids: case ids of all rows, also of invalid ones.
    """

    name: str
    columns: tuple[str, ...]
    cases: list[dict[str, Any]]
    case_ids: list[str]


def read_label_table(path: Path, problems: list[str]) -> LabelTable:
    """Read a table of labels.

    Args:
        path: CSV with the columns ``case_id`` and ``label`` (``covid`` or ``cap``) and, optionally, ``patient_id``
            (a pseudonym; without it each case is its own patient), ``fold``, ``image``, ``lung``, ``infection``
            (paths relative to the table) and others.
        problems: list to which problems of single rows are added.

    Returns:
        The table.

    Raises:
        ValueError: when the file is not such a table.
    """
    rows, columns = _read(path)
    _check_columns(path, columns)
    place = columns.index("case_id")
    cases, case_ids = [], [row[place] if place < len(row) else "" for row in rows]
    for number, (row, case_id) in enumerate(zip(rows, case_ids, strict=True), start=1):
        try:
            cases.append(_case(row, columns, path.parent))
        except ValueError as error:
            problems.append(f"row {number} of {path.name} ({case_id or 'no case_id'}): {error}")
    return LabelTable(path.name, columns, cases, [case_id for case_id in case_ids if case_id])


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    computed = [name for name in COMPUTED_COLUMNS if name in columns]
    if missing or len(set(columns)) < len(columns):
        raise ValueError(
            f"Table {path} has the columns {', '.join(columns) or 'none'}. "
            "Expected case_id and label, each column once, separated by commas."
        )
    if computed:
        raise ValueError(
            f"Table {path} has the column {computed[0]}, which is computed from the masks. Rename or remove it."
        )


def _read(path: Path) -> tuple[list[list[str]], tuple[str, ...]]:
    """Non-empty rows, and the names of the columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[value.strip() for value in row] for row in csv.reader(file, skipinitialspace=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"Table {path} cannot be read: {error}. Expected a CSV in UTF-8.") from error
    first, *rest = rows or [[]]
    return [row for row in rest if any(row)], tuple(first)


def _case(values: Sequence[str], columns: Sequence[str], folder: Path) -> dict[str, Any]:
    if len(values) != len(columns):
        raise ValueError(f"has {len(values)} values for {len(columns)} columns. Quote values that contain a comma")
    row: dict[str, Any] = dict(zip(columns, values, strict=True))
    empty = [name for name in columns if name in NEEDED_VALUES and not row[name]]
    if empty:
        raise ValueError(f"has no {' and no '.join(repr(name) for name in empty)}")
    row["patient_id"] = row.get("patient_id") or row["case_id"]
    row["label"] = class_label(row["label"])
    if "fold" in row:
        is_number = row["fold"].isdecimal() and len(row["fold"]) <= MOST_DIGITS
        row["fold"] = fold_number(int(row["fold"]) if is_number else row["fold"])
    return row | {key: str(path_inside(folder, row[key])) for key in PATH_KEYS if key in row}
