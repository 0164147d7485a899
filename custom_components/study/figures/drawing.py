"""Figure of a study: print style and files."""

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

# Width of a figure across both columns of a journal page.
WIDTH_MM = 180.0

# Colour (Okabe and Ito 2008), line and marker of each system, in order; each property alone is distinctive.
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
    "pdf.fonttype": 42,  # embed text as text
    "text.parse_math": False,  # a site name may contain "$"
}


@dataclass(frozen=True)
class Drawing:
    """Figure as printed in a paper.

    Args:
        name: file name.
        title: title of the figure.
        note: explanatory note.
        figure: the figure.
    """

    name: str
    title: str
    note: str
    figure: Figure


@contextmanager
def print_style() -> Iterator[None]:
    """Matplotlib style legible at print size; also usable as a decorator."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(height_mm: float) -> Figure:
    """Create an empty figure without global matplotlib state."""
    return Figure(figsize=(WIDTH_MM / _MM_PER_INCH, height_mm / _MM_PER_INCH), dpi=_DPI, layout="constrained")


def look_of(index: int) -> dict[str, Any]:
    """Colour and line style of the system at this position."""
    colour, line, _ = LOOKS[index % len(LOOKS)]
    return {"color": colour, "linestyle": line}


def marker_of(index: int) -> dict[str, Any]:
    """Colour and marker of the system at this position, without line."""
    colour, _, marker = LOOKS[index % len(LOOKS)]
    return {"color": colour, "marker": marker, "linestyle": "none"}


def say_empty(axes: Axes, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35", wrap=True)


def hide_all(panels: Sequence[Axes]) -> None:
    """Hide unused panels of a grid."""
    for axes in panels:
        axes.set_axis_off()


def drawing_files(drawing: Drawing) -> dict[str, bytes]:
    """PNG and PDF of a figure by file name, of one layout, deterministic byte by byte."""
    png, pdf = io.BytesIO(), io.BytesIO()
    figure, layout = drawing.figure, drawing.figure.get_layout_engine()
    with print_style():
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        figure.set_layout_engine("none")  # the axes stay where they are
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
        figure.set_layout_engine(layout)
    return {f"{drawing.name}.png": png.getvalue(), f"{drawing.name}.pdf": pdf.getvalue()}
