"""Table of a study: cells, their text and the notes."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
from custom_components.study.results.study_results import FailedRun
from custom_components.study.statistics.bootstrap import BootstrapInterval

# Text of an undefined value, followed by the number of cases.
DASH = "\N{EN DASH}"
# Footnote mark for a number with missing folds or cases; the note lists them.
INCOMPLETE = "\N{DAGGER}"


@dataclass(frozen=True)
class Cell:
    """Number of a table with its uncertainty.

    Args:
        value: the number; NaN if undefined.
        low: lower limit of the interval, or the minimum; NaN without one.
        high: upper limit, or the maximum; NaN without one.
        sd: sample standard deviation (over fold models or patients); NaN without one.
        n: number of cases or models; None if there was nothing to score.
        digits: number of printed decimals.
        least: smallest printed value, for p-values: smaller ones print as ``< 0.001``.
        mark: footnote mark.
        undefined: bootstrap resamples in which the number is undefined; excluded from the interval.

    Example:
        >>> str(Cell(0.95, low=0.921, high=0.973)), str(Cell(0.934, sd=0.011)), str(Cell(n=5))[1:], str(Cell())
        ('0.950 (0.921 to 0.973)', '0.934 ± 0.011', ' (n = 5)', '')
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    n: int | None = None
    digits: int = 3
    least: float = 0.0
    mark: str = ""
    undefined: int = 0

    def __str__(self) -> str:
        """Printed text: a dash with n if undefined, empty if nothing was scored."""
        if math.isnan(self.value):
            return "" if self.n is None else f"{DASH} (n = {self.n}){self.mark}"
        if 0 <= self.value < self.least:
            return f"< {self.least:g}{self.mark}"
        spread = "" if math.isnan(self.sd) else f" ± {self._fixed(self.sd)}"
        known = not (math.isnan(self.low) or math.isnan(self.high))
        interval = f" ({self._fixed(self.low)} to {self._fixed(self.high)})" if known else ""
        return f"{self._fixed(self.value)}{self.mark}{spread}{interval}"

    def _fixed(self, number: float) -> str:
        text = f"{number:.{self.digits}f}"
        return text.lstrip("-") if float(text) == 0 else text


def p_value(value: float, n: int | None = None) -> Cell:
    """Cell of a p-value; ``< 0.001`` if smaller.

    Example:
        >>> str(p_value(0.0312)), str(p_value(2e-9))
        ('0.031', '< 0.001')
    """
    return Cell(value, n=n, least=0.001)


def interval_of(found: BootstrapInterval, units: int, n: int, mark: str = "") -> Cell:
    """Cell of a bootstrap result; without interval if the number is undefined or of a single patient or group."""
    has_interval = units > 1 and not math.isnan(found.value)
    limits = (found.low, found.high) if has_interval else (math.nan, math.nan)
    return Cell(found.value, *limits, n=n, mark=mark, undefined=found.n_undefined if has_interval else 0)


def mean_cell_of(values: Sequence[float], n: int, mark: str = "") -> Cell:
    """Mean and sample standard deviation of the defined values; a dash if there is none."""
    known = pd.Series(values, dtype=float).dropna()
    return Cell(float(known.mean()), sd=float(known.std()), n=n, mark=mark)


@dataclass(frozen=True)
class Table:
    """Table as printed in a paper.

    Args:
        name: file name.
        title: title of the table.
        note: how the numbers were computed and what is missing.
        frame: cells (:class:`Cell`, whole numbers or text); the index has the row names, one level per printed column;
            column names may have two levels.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame

    def row_names(self) -> list[str]:
        """Titles of the index columns."""
        return [str(name or "") for name in self.frame.index.names]

    def head(self) -> Iterator[list[tuple[str, int]]]:
        """Header rows without the index columns: text and number of columns that it spans."""
        keys = [levels(key) for key in self.frame.columns]
        for level in range(self.frame.columns.nlevels):
            groups = groupby(key[: level + 1] for key in keys)
            yield [(names[-1], len(list(same))) for names, same in groups]

    def rows(self) -> Iterator[tuple[list[str], list[str]]]:
        """Names of each row (empty if equal to the row above) and its cell texts."""
        before: tuple[str, ...] = ()
        for key, values in zip(self.frame.index, self.frame.itertuples(index=False, name=None), strict=True):
            names = levels(key)
            yield (
                ["" if names[: i + 1] == before[: i + 1] else name for i, name in enumerate(names)],
                [str(value) for value in values],
            )
            before = names


def table_frame(
    rows: Mapping[Any, Mapping[Any, object]], names: Sequence[str], columns: Sequence[str] | pd.Index = ()
) -> pd.DataFrame:
    """Frame of a table from cells by row and column; missing cells are empty.

    Args:
        rows: row names (a tuple if there is more than one level) to cells by column.
        names: titles of the index columns.
        columns: columns in order; by default those of the first row.

    Example:
        >>> print(table_frame({("M", "yes"): {"Dice": Cell(0.5)}}, ["network", "augmented"], ["Dice", "Cases"]))
        column               Dice Cases
        network augmented
        M       yes        0.500
    """
    keys = pd.MultiIndex.from_tuples(map(levels, rows), names=list(names))
    index = keys.get_level_values(0) if len(names) == 1 else keys
    shown = columns if len(columns) else next(iter(rows.values()), {})
    shown = shown if isinstance(shown, pd.Index) else pd.Index(list(shown), name="column")
    cells = [[row.get(column, Cell()) for column in shown] for row in rows.values()]
    return pd.DataFrame(cells, index=index, columns=shown, dtype=object)


def levels(key: Hashable) -> tuple[str, ...]:
    """Names in a row or column key of a frame, one per level."""
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)


def failed_note(failed: tuple[FailedRun, ...]) -> str:
    """Names of failed runs; empty if there are none."""
    return f"Failed: {', '.join(run.name for run in failed)}." if failed else ""


def undefined_note(frame: pd.DataFrame) -> str:
    """Maximum number of undefined resamples in a table; empty if there are none."""
    most = max((cell.undefined for row in frame.to_numpy() for cell in row if isinstance(cell, Cell)), default=0)
    if not most:
        return ""
    return (
        f"Resamples in which a value is undefined (at most {most}, counts in the CSV) are excluded from its interval."
    )


def joined_notes(*parts: str) -> str:
    """Join non-empty sentences to one paragraph."""
    return " ".join(part for part in parts if part)
