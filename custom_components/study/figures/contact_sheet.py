"""Contact sheets: pictures of cases below each other, each with a caption."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from custom_components.study.figures.drawing import WIDTH_MM, Drawing, hide_all, new_figure, print_style
from matplotlib.axes import Axes
from PIL import Image

# Page size without margins and the figure's caption.
_PAGE_MM = 225.0
_CAPTION_MM = 9.0
_PX_PER_MM = 8.0
_LETTERS_PER_MM = 0.72


@dataclass(frozen=True)
class Picture:
    """One picture of a sheet.

    Args:
        path: PNG file.
        caption: description, without patient identity.
    """

    path: Path
    caption: str


def draw_contact_sheets(name: str, title: str, note: str, pictures: Sequence[Picture]) -> list[Drawing]:
    """Draw pictures below each other, as many per sheet as fit on a page; later sheets get a number."""
    if not pictures:
        return []
    rows = max(1, int(_PAGE_MM // max(map(_height_mm, pictures))))
    sheets = [pictures[start : start + rows] for start in range(0, len(pictures), rows)]
    return [
        _sheet(
            name if number == 1 else f"{name}_{number}",
            title if len(sheets) == 1 else f"{title} ({number} of {len(sheets)})",
            note, sheet,
        )
        for number, sheet in enumerate(sheets, 1)
    ]  # fmt: skip


@print_style()
def _sheet(name: str, title: str, note: str, pictures: Sequence[Picture]) -> Drawing:
    heights = list(map(_height_mm, pictures))
    figure = new_figure(sum(heights))
    grid = list(figure.subplots(len(heights), squeeze=False, height_ratios=heights).flat)
    for axes, picture in zip(grid, pictures, strict=True):
        _draw(axes, picture)
    hide_all(grid)
    return Drawing(name, title, note, figure)


def _draw(axes: Axes, picture: Picture) -> None:
    with Image.open(picture.path) as image:
        rgb = image.convert("RGB")
        rgb.thumbnail((round(WIDTH_MM * _PX_PER_MM),) * 2, Image.Resampling.LANCZOS)
    axes.imshow(np.asarray(rgb), interpolation="none")
    axes.set_anchor("NW")
    lines = textwrap.wrap(picture.caption, round(WIDTH_MM * _LETTERS_PER_MM))
    axes.set_title("\n".join(lines), loc="left", fontsize=7, fontweight="normal")


def _height_mm(picture: Picture) -> float:
    with Image.open(picture.path) as image:
        return WIDTH_MM * image.height / image.width + _CAPTION_MM
