"""Contact sheets: pictures of cases side by side, each with a caption."""

import textwrap
from collections.abc import Iterator, Sequence
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


def draw_contact_sheets(name: str, title: str, note: str, pictures: Sequence[Picture], columns: int) -> list[Drawing]:
    """Draw pictures in reading order, as many per sheet as fit on a page.

    Args:
        name: file name; sheets after the first get a number.
        title: title of the sheets.
        note: explanatory note.
        pictures: the pictures.
        columns: pictures per row.

    Returns:
        The sheets; none without pictures.
    """
    if not pictures:
        return []
    width_mm = WIDTH_MM / columns
    rows = max(1, int(_PAGE_MM // max(_height_mm(picture, width_mm) for picture in pictures)))
    sheets = list(_chunks(pictures, rows * columns))
    return [
        _sheet(
            name if number == 1 else f"{name}_{number}",
            title if len(sheets) == 1 else f"{title} ({number} of {len(sheets)})",
            note, sheet, columns,
        )
        for number, sheet in enumerate(sheets, 1)
    ]  # fmt: skip


@print_style()
def _sheet(name: str, title: str, note: str, pictures: Sequence[Picture], columns: int) -> Drawing:
    width_mm = WIDTH_MM / columns
    heights = [max(_height_mm(picture, width_mm) for picture in row) for row in _chunks(pictures, columns)]
    figure = new_figure(sum(heights))
    grid = list(figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flat)
    for axes, picture in zip(grid, pictures, strict=False):
        _draw(axes, picture, width_mm)
    hide_all(grid)
    return Drawing(name, title, note, figure)


def _draw(axes: Axes, picture: Picture, width_mm: float) -> None:
    with Image.open(picture.path) as image:
        rgb = image.convert("RGB")
        rgb.thumbnail((round(width_mm * _PX_PER_MM),) * 2, Image.Resampling.LANCZOS)
    axes.imshow(np.asarray(rgb), interpolation="none")
    axes.set_anchor("NW")
    lines = textwrap.wrap(picture.caption, round(width_mm * _LETTERS_PER_MM))
    axes.set_title("\n".join(lines), loc="left", fontsize=7, fontweight="normal")


def _height_mm(picture: Picture, width_mm: float) -> float:
    with Image.open(picture.path) as image:
        return width_mm * image.height / image.width + _CAPTION_MM


def _chunks(pictures: Sequence[Picture], size: int) -> Iterator[Sequence[Picture]]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]
