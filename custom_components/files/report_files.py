"""Atomic writers of JSON, CSV and PNG report files."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.atomic import atomic_path
from PIL import Image

# First characters of a formula; spreadsheets also run text after a tab or a carriage return.
SIGNS = ("=", "+", "-", "@", "\t", "\r")
# A spreadsheet shows what follows this character as text.
QUOTE = "'"


def write_json(target: str | Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file; NaN and infinity are refused, because JSON does not have them.

    Args:
        target: the file.
        content: its content.

    Raises:
        ValueError: when a number is not finite.
    """
    with atomic_path(target) as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(target: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ("case_id",)) -> None:
    """Write a table. Its columns are ``columns``, then the keys of the rows in order. None is an empty cell.

    Text that a spreadsheet would run as a formula is quoted, see :func:`quoted`.

    Args:
        target: the file.
        rows: one mapping from column name to value per row.
        columns: first columns; they are written even without rows.
    """
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    with atomic_path(target) as path, path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows({name: quoted(value) for name, value in row.items()} for row in rows)


def write_png(target: str | Path, picture: Image.Image) -> None:
    """Write a picture as PNG."""
    with atomic_path(target) as path:
        picture.save(path, format="PNG")


def quoted(value: object) -> object:
    """A cell that no spreadsheet runs: text that looks like a formula, but is not a number, gets a quote.

    Example:
        >>> quoted("=cmd()"), quoted("covid_017"), quoted("-12.5"), quoted(-3)
        ("'=cmd()", 'covid_017', '-12.5', -3)
    """
    return f"{QUOTE}{value}" if isinstance(value, str) and _is_formula(value) else value


def unquoted(text: str) -> str:
    """Undo :func:`quoted`.

    Example:
        >>> unquoted("'=cmd()"), unquoted("'s Hertogenbosch")
        ('=cmd()', "'s Hertogenbosch")
    """
    return text[1:] if text.startswith(QUOTE) and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    if not text.startswith(SIGNS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
