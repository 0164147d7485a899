"""A table of a study: what is in a cell, what the cell says, and what its note says."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
from custom_components.study.results.study_results import FailedRun
from custom_components.study.statistics.bootstrap import BootstrapInterval

# What stands where there is nothing to compute, beside how many cases there are.
DASH = "\N{EN DASH}"
# Beside a number that misses a fold or cases; the note names them.
INCOMPLETE = "\N{DAGGER}"


@dataclass(frozen=True)
class Cell:
    """A number of a table, and how sure it is.

    Args:
        value: the number; NaN where it is not defined.
        low: lower end of its interval, or the least value; NaN without one.
        high: upper end, or the greatest value; NaN without one.
        sd: its sample standard deviation (over fold models, or over patients); NaN without one.
        n: how many cases, or models, it is made of; None where nothing was there to score.
        digits: printed behind the point.
        least: smallest number that is printed, for p-values: below it ``< 0.001`` is.
        mark: sign that the note explains.
        undefined: bootstrap resamples in which the number is not defined; the interval is of the others.

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
        """The cell as it is printed: a dash with its n where undefined, nothing where nothing was scored."""
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
    """Cell of a p-value; ``< 0.001`` where it is smaller.

    Example:
        >>> str(p_value(0.0312)), str(p_value(2e-9))
        ('0.031', '< 0.001')
    """
    return Cell(value, n=n, least=0.001)


def interval_of(found: BootstrapInterval, units: int, n: int, mark: str = "") -> Cell:
    """Cell of a bootstrap.

    Args:
        found: what it gave.
        units: how many patients, or groups of cases, could be drawn; of a single one there is no interval.
        n: cases.
        mark: sign for the note.

    Returns:
        The cell; without interval where the number is not defined.
    """
    has_interval = units > 1 and not math.isnan(found.value)
    limits = (found.low, found.high) if has_interval else (math.nan, math.nan)
    return Cell(found.value, *limits, n=n, mark=mark, undefined=found.n_undefined if has_interval else 0)


@dataclass(frozen=True)
class Table:
    """A table as it stands in a paper.

    Args:
        name: of its files.
        title: what it shows.
        note: how its numbers came about and what is missing.
        frame: its cells (:class:`Cell`, whole numbers or text); the names of its rows are the index, one level a
            column of the page, and those of its columns may have two levels.
    """

    name: str
    title: str
    note: str
    frame: pd.DataFrame

    def row_names(self) -> list[str]:
        """Titles of the columns that name the rows."""
        return [str(name or "") for name in self.frame.index.names]

    def head(self) -> Iterator[list[tuple[str, int]]]:
        """Rows of the head, without the columns that name the rows: text, and over how many columns it stands."""
        keys = [levels(key) for key in self.frame.columns]
        for level in range(self.frame.columns.nlevels):
            groups = groupby(key[: level + 1] for key in keys)
            yield [(names[-1], len(list(same))) for names, same in groups]

    def rows(self) -> Iterator[tuple[list[str], list[str]]]:
        """Names of each row, empty where the row above has the same, and the texts of its cells."""
        before: tuple[str, ...] = ()
        for key, values in zip(self.frame.index, self.frame.itertuples(index=False, name=None), strict=True):
            names = levels(key)
            yield (
                ["" if names[: i + 1] == before[: i + 1] else name for i, name in enumerate(names)],
                [str(value) for value in values],
            )
            before = names


def table_frame(
    rows: Mapping[Any, Mapping[str, object]], names: Sequence[str], columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Cells by the names of their rows and columns.

    Args:
        rows: names of a row, a tuple, to its cells by column.
        names: titles of the columns that name the rows.
        columns: those of the table, in order; without them those of the first row.

    Returns:
        The frame of a table; a cell that a row lacks is empty.

    Example:
        >>> print(table_frame({("M", "yes"): {"Dice": Cell(0.5)}}, ["network", "augmented"], ["Dice", "Cases"]))
        column               Dice Cases
        network augmented
        M       yes        0.500
    """
    index = pd.MultiIndex.from_tuples(list(rows), names=list(names))
    shown = list(columns) or list(next(iter(rows.values()), []))
    cells = [[row.get(column, Cell()) for column in shown] for row in rows.values()]
    return pd.DataFrame(cells, index=index, columns=pd.Index(shown, name="column"), dtype=object)


def levels(key: Hashable) -> tuple[str, ...]:
    """Names in a key of the rows or columns of a frame, one for each of its levels."""
    return tuple(map(str, key)) if isinstance(key, tuple) else (str(key),)


def failed_note(failed: tuple[FailedRun, ...]) -> str:
    """Names of the runs that did not finish; empty without any."""
    return f"Failed: {', '.join(run.name for run in failed)}." if failed else ""


def undefined_note(frame: pd.DataFrame) -> str:
    """How many resamples at most did not define a number of a table; empty where all did."""
    most = max((cell.undefined for row in frame.to_numpy() for cell in row if isinstance(cell, Cell)), default=0)
    if not most:
        return ""
    return f"Resamples in which a number is not defined (at most {most}, each in the CSV) are left out of its interval."


def joined_notes(*parts: str) -> str:
    """Sentences in one paragraph, without the empty ones."""
    return " ".join(part for part in parts if part)
