"""A figure of a study: how it looks in print, and its files."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

# Width of a figure that spans both columns of a journal's page.
WIDTH_MM = 180.0

# Colour (Okabe and Ito 2008), line and marker of the systems, in their order: each alone tells them apart.
LOOKS = (
    ("#0072b2", "-", "o"),
    ("#d55e00", "--", "s"),
    ("#009e73", ":", "^"),
    ("#cc79a7", "-.", "D"),
    ("#000000", (0, (5, 1, 1, 1)), "v"),
    ("#56b4e9", (0, (1, 3)), "P"),
)

_DPI = 200
_MM_PER_INCH = 25.4
_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # letters stay letters
    "text.parse_math": False,  # a site may be called "$"
}


@dataclass(frozen=True)
class Drawing:
    """A figure as it stands in a paper.

    Args:
        name: of its files.
        title: what it shows.
        note: what is to be known of it.
        figure: the figure.
    """

    name: str
    title: str
    note: str
    figure: Figure


@contextmanager
def print_style() -> Iterator[None]:
    """Letters and lines that can be read at print size; also as a decorator of a function that draws."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(height_mm: float, width_mm: float = WIDTH_MM) -> Figure:
    """An empty figure without any global state.

    Args:
        height_mm: in print.
        width_mm: in print.

    Returns:
        The figure.
    """
    return Figure(figsize=(width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH), dpi=_DPI, layout="constrained")


def look_of(index: int) -> dict[str, Any]:
    """Colour and line of the system at this place."""
    colour, line, _ = LOOKS[index % len(LOOKS)]
    return {"color": colour, "linestyle": line}


def marker_of(index: int) -> dict[str, Any]:
    """Colour and marker of the system at this place, without line."""
    colour, _, marker = LOOKS[index % len(LOOKS)]
    return {"color": colour, "marker": marker, "linestyle": "none"}


def say_empty(axes: Axes, text: str) -> None:
    """Write into a panel that has nothing to show why it has not."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35", wrap=True)


def hide_all(panels: Sequence[Axes]) -> None:
    """Take away the panels of a grid that are left over."""
    for axes in panels:
        axes.set_axis_off()


def drawing_files(drawing: Drawing) -> dict[str, bytes]:
    """Contents of the files of a figure, by their names; the same figure gives the same bytes.

    Args:
        drawing: the figure.

    Returns:
        ``<name>.png`` and ``<name>.pdf``.
    """
    png, pdf = io.BytesIO(), io.BytesIO()
    with print_style():
        FigureCanvasAgg(drawing.figure).print_png(png, metadata={"Software": None})
        FigureCanvasPdf(drawing.figure).print_pdf(pdf, metadata={"CreationDate": None})
    return {f"{drawing.name}.png": png.getvalue(), f"{drawing.name}.pdf": pdf.getvalue()}
