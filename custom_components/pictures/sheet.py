"""Sheets of panels with a title and a legend."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from custom_components.pictures.overlay import as_picture
from PIL import Image, ImageDraw, ImageFont

MARGIN_PX, FONT_PX = 8, 15
TEXT_GREY = (230, 230, 230)
FOOTER = "research use only"

_SWATCH_PX = FONT_PX + 1


def short_name(case_id: str, most: int = 40) -> str:
    """Shorten the name of a case to fit a title; a long one, such as a UID, keeps its end.

    Example:
        >>> short_name("covid_003"), short_name("1.2.826.0.1.3680043.8.498.81328250012993076616411464724380109228")
        ('covid_003', '...8.81328250012993076616411464724380109228')
    """
    return case_id if len(case_id) <= most else f"...{case_id[-most:]}"


def swatch(colour: tuple[int, int, int], is_filled: bool = True) -> np.ndarray:
    """Draw a legend sample in a colour, RGB 0..255: a filled square for areas, a frame for outlines."""
    square = np.zeros((_SWATCH_PX, _SWATCH_PX, 3))
    square[:] = np.array(colour) / 255
    if not is_filled:
        square[2:-2, 2:-2] = 0
    return square


def draw_sheet(
    rows: Mapping[str, Mapping[str, np.ndarray]], title: str, legend: Mapping[str, np.ndarray]
) -> Image.Image:
    """Arrange panels with a title, column names and a legend.

    Args:
        rows: letters of the patient's sides, as for :func:`mark_sides`, to a row of panels: name to picture, RGB in
            [0, 1], shape (H, W, 3); one size per row and the same width in all rows.
        title: title of the sheet.
        legend: text to its sample, RGB in [0, 1], shape (H, W, 3).

    Returns:
        RGB image, as wide as its panels, title and legend need.
    """
    font, line = ImageFont.load_default(FONT_PX), FONT_PX + MARGIN_PX
    pictures = [[as_picture(rgb) for rgb in panels.values()] for panels in rows.values()]
    key, names = draw_legend(legend, font), next(iter(rows.values()))
    step = pictures[0][0].width + MARGIN_PX
    texts_px = math.ceil(max(font.getlength(title), key.width + font.getlength(FOOTER))) + MARGIN_PX
    height = sum(row[0].height + MARGIN_PX for row in pictures) + 3 * line + MARGIN_PX
    sheet = Image.new("RGB", (max(len(names) * step, texts_px) + MARGIN_PX, height))
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, MARGIN_PX // 2), title, fill=TEXT_GREY, font=font)
    for column, name in enumerate(names):
        draw.text((MARGIN_PX + column * step, line + MARGIN_PX // 2), name, fill=TEXT_GREY, font=font)
    top = 2 * line
    for sides, row in zip(rows, pictures, strict=True):
        for column, panel in enumerate(row):
            mark_sides(panel, sides, font)
            sheet.paste(panel, (MARGIN_PX + column * step, top))
        top += row[0].height + MARGIN_PX
    sheet.paste(key, (MARGIN_PX, top))
    draw.text((sheet.width - MARGIN_PX, top), FOOTER, fill=TEXT_GREY, font=font, anchor="ra")
    return sheet


def draw_legend(samples: Mapping[str, np.ndarray], font: Any) -> Image.Image:
    """Draw samples and texts of a legend on one line.

    Args:
        samples: text to its sample, RGB in [0, 1], shape (H, W, 3).
        font: font of the texts.
    """
    lefts = [0]
    for text, sample in samples.items():
        lefts.append(lefts[-1] + sample.shape[1] + 5 + math.ceil(font.getlength(text)) + 2 * MARGIN_PX)
    picture = Image.new("RGB", (lefts[-1], FONT_PX + MARGIN_PX))
    for left, (text, sample) in zip(lefts, samples.items(), strict=False):
        picture.paste(as_picture(sample), (left, 0))
        ImageDraw.Draw(picture).text((left + sample.shape[1] + 5, 0), text, fill=TEXT_GREY, font=font)
    return picture


def mark_sides(panel: Image.Image, sides: str, font: Any) -> None:
    """Write the patient's sides at the edges of a panel.

    Args:
        panel: picture to write on.
        sides: letters of the left and right edge and, with four letters, the upper and lower edge.
        font: font of the letters.
    """
    (width, height), draw = panel.size, ImageDraw.Draw(panel)
    x, y = width // 2, height // 2
    edges = (("lm", (4, y)), ("rm", (width - 4, y)), ("mt", (x, 4)), ("mb", (x, height - 4)))
    for side, (anchor, place) in zip(sides, edges, strict=False):
        draw.text(place, side, fill=TEXT_GREY, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
