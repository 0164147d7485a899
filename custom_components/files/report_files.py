"""The files of a report, each there as a whole or not at all."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.files.atomic import atomic_path
from PIL import Image


def write_json(target: str | Path, content: Mapping[str, Any]) -> None:
    """Write numbers, strings and None; NaN and infinity are refused, since JSON has none.

    Args:
        target: the file.
        content: what it holds.

    Raises:
        ValueError: when a number is not finite.
    """
    with atomic_path(target) as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(target: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ("case_id",)) -> None:
    """Write a table; its columns are ``columns`` and those of any row, in the order met. None is an empty cell.

    A text that a spreadsheet would compute is quoted, see :mod:`custom_components.files.report_files`.

    Args:
        target: the file.
        rows: column name to value.
        columns: columns that come first, also of a table without rows.
    """
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    with atomic_path(target) as path, path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows({name: quoted(value) for name, value in row.items()} for row in rows)


def write_png(target: str | Path, picture: Image.Image) -> None:
    """Write a picture as PNG.

    Args:
        target: the file.
        picture: what it shows.
    """
    with atomic_path(target) as path:
        picture.save(path, format="PNG")


# How a formula begins; a spreadsheet also takes what stands behind a tab or a carriage return.
SIGNS = ("=", "+", "-", "@", "\t", "\r")
# A spreadsheet shows what follows it as text.
QUOTE = "'"


def quoted(value: object) -> object:
    """A cell that no spreadsheet computes: a text that begins like a formula, and is no number, gets a quote.

    Example:
        >>> quoted("=cmd()"), quoted("covid_017"), quoted("-12.5"), quoted(-3)
        ("'=cmd()", 'covid_017', '-12.5', -3)
    """
    return f"{QUOTE}{value}" if isinstance(value, str) and _is_formula(value) else value


def unquoted(text: str) -> str:
    """The text that :func:`quoted` was given.

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
