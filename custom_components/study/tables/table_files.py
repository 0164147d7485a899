"""Write a table of a study as Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
from custom_components.files.report_files import quoted
from custom_components.study.tables.table import DASH, INCOMPLETE, Cell, Table, levels
from tabulate import tabulate

# CSV columns after the row and column names of a cell.
NUMBERS = ("value", "low", "high", "sd", "n", "undefined")
_DIGITS = 6  # significant digits of numbers in the CSV

_MARKDOWN = re.compile(r"([\\|*_`\[\]#~])|<(?=[A-Za-z/!?])")
_LATEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", DASH: "--", INCOMPLETE: r"$^{\dagger}$"},
        **{'"': "''", "\n": " ", "[": "{[}"},
    }
)


def table_files(table: Table) -> dict[str, str]:
    """Markdown, CSV and LaTeX of a table by file name."""
    contents = {"md": markdown(table), "csv": csv_text(table), "tex": latex(table)}
    return {f"{table.name}.{suffix}": content for suffix, content in contents.items()}


def markdown(table: Table) -> str:
    """Format a table as Markdown with title and note; texts from the data set are escaped.

    Two header levels are joined with colons because Markdown supports only one.
    """
    columns = [": ".join(dict.fromkeys(filter(None, levels(key)))) for key in table.frame.columns]
    head = [escape_markdown(text) for text in (*table.row_names(), *columns)]
    body = [[escape_markdown(text) for text in (*names, *texts)] for names, texts in table.rows()]
    align = ["left"] * table.frame.index.nlevels + ["right"] * len(columns)
    grid = tabulate(body, head, tablefmt="pipe", disable_numparse=True, colalign=align if body else None)
    return f"# {escape_markdown(table.title)}\n\n{grid}\n\n{escape_markdown(table.note)}\n"


def csv_text(table: Table) -> str:
    """Format a table as CSV with one line per cell.

    Each line has the row and column names, the numbers of ``NUMBERS`` in separate columns with six significant digits,
    and the text printed in the other formats. Unknown values are empty.
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    columns = [str(name or "column") for name in table.frame.columns.names]
    writer.writerow([*table.row_names(), *columns, *NUMBERS, "text"])
    for row, cells in zip(table.frame.index, table.frame.itertuples(index=False, name=None), strict=True):
        for column, cell in zip(table.frame.columns, cells, strict=True):
            names = map(quoted, (*levels(row), *levels(column)))
            writer.writerow([*names, *_numbers(cell), str(cell)])
    return target.getvalue()


def latex(table: Table) -> str:
    r"""Format a table as LaTeX for ``\input`` with ``booktabs``; texts from the data set are escaped."""
    columns = table.frame.columns
    keys = [*(("",) * (columns.nlevels - 1) + (name,) for name in table.row_names()), *map(levels, columns)]
    head = pd.MultiIndex.from_tuples([tuple(map(escape_latex, key)) for key in keys])
    body = [[escape_latex(text) for text in (*names, *texts)] for names, texts in table.rows()]
    shown = pd.DataFrame(body, columns=head if head.nlevels > 1 else head.get_level_values(0))
    text = shown.to_latex(
        index=False,
        escape=False,  # pandas does not escape < and [, nor caption and note
        column_format="l" * table.frame.index.nlevels + "r" * len(columns),
        multicolumn_format="c",
        caption=escape_latex(table.title),
        label=f"tab:{table.name}",
    )
    note = rf"\par\smallskip\footnotesize {escape_latex(table.note)}"
    text = text.replace(r"\begin{table}", "\\begin{table}\n\\centering", 1)
    return "% needs \\usepackage{booktabs}\n" + text.replace(r"\end{table}", f"{note}\n\\end{{table}}")


def escape_markdown(text: str) -> str:
    r"""Escape a text for Markdown: special characters, tags and line breaks.

    Example:
        >>> escape_markdown("a|b <script> < 0.005")
        'a\\|b \\<script> < 0.005'
    """
    return _MARKDOWN.sub(lambda found: f"\\{found.group(0)}", " ".join(text.split()))


def escape_latex(text: str) -> str:
    r"""Escape a text for LaTeX.

    Example:
        >>> escape_latex("50 % of R&D_1 < 0.005")
        '50 \\% of R\\&D\\_1 $<$ 0.005'
    """
    return text.translate(_LATEX)


def _numbers(cell: Any) -> Iterator[str]:
    known = cell if isinstance(cell, Cell) else Cell(cell) if isinstance(cell, int | float) else Cell()
    for number in (getattr(known, name) for name in NUMBERS):
        if number is None or math.isnan(number):
            yield ""
        else:
            yield f"{number + 0:.{_DIGITS}g}" if isinstance(number, float) else str(number)
