"""Thumbnails of the masks of many cases, on sheets that show bad masks at a glance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from custom_components.labels import INFECTION, LUNG
from custom_components.pictures.figures import MASKS, outlined_masks
from custom_components.pictures.overlay import Cut, as_picture
from custom_components.pictures.sheet import FOOTER, MARGIN_PX, TEXT_GREY, draw_legend, mark_sides
from custom_components.pictures.slices import most_affected, window_to_grey
from PIL import Image, ImageDraw, ImageFont

CASES_PER_SHEET = 50
# Thumbnails next to each other on a sheet.
COLUMNS = 5
# Side of the square that each of the two views fits into, and height of the text.
VIEW_PX, FONT_PX = 168, 13
CAPTION_PX = FONT_PX + 7
# Colour of the text under a case to look at first.
MARKED = (255, 170, 60)


@dataclass(frozen=True)
class Thumbnail:
    """A case on a contact sheet.

    Args:
        picture: as from :func:`draw_thumbnail`.
        name: name of the case; shortened at its start where it does not fit.
        numbers: text after the name, such as the volume of the lungs.
        marked: whether to look at this case first.
    """

    picture: Image.Image
    name: str
    numbers: str
    marked: bool = False


def draw_thumbnail(
    image_hu: np.ndarray, lung: np.ndarray, infection: np.ndarray, spacing_mm: Sequence[float]
) -> Image.Image:
    """Draw an axial and a coronal slice with the outlines of lungs and infection, both in the scan's proportions.

    The slices are those with most infection, or most lung. All arrays have the shape (X, Y, Z), x to the patient's
    left, y to posterior, z to superior.

    Args:
        image_hu: CT in HU.
        lung: nonzero inside the lungs.
        infection: nonzero in the infection.
        spacing_mm: voxel size along x, y, z.

    Returns:
        RGB image of two squares, the patient's right on the viewer's left.
    """
    z, y = most_affected(image_hu.shape, infection, None, lung)
    label = np.where(infection != 0, INFECTION, np.where(lung != 0, LUNG, 0)).astype(np.uint8)
    width, depth, height = np.array(image_hu.shape) * spacing_mm
    picture = Image.new("RGB", (2 * VIEW_PX, VIEW_PX))
    views = ((np.s_[:, :, z], width, depth), (np.s_[:, y, ::-1], width, height))
    for left, (place, across_mm, down_mm) in zip((0, VIEW_PX), views, strict=True):
        scale = VIEW_PX / max(across_mm, down_mm)
        cut = Cut(place, (max(1, round(across_mm * scale)), max(1, round(down_mm * scale))))
        view = as_picture(outlined_masks(window_to_grey(cut.values(image_hu)), cut.labels(label)))
        mark_sides(view, "RL", ImageFont.load_default(FONT_PX - 2))
        picture.paste(view, (left + (VIEW_PX - view.width) // 2, (VIEW_PX - view.height) // 2))
    return picture


def draw_contact_sheet(thumbnails: Sequence[Thumbnail], title: str) -> Image.Image:
    """Arrange thumbnails row by row, with a title and a legend.

    Args:
        thumbnails: one or more.
        title: title of the sheet.

    Returns:
        RGB image; its width does not depend on the number of thumbnails.
    """
    font, line = ImageFont.load_default(FONT_PX), CAPTION_PX + MARGIN_PX
    step_x, step_y = 2 * VIEW_PX + MARGIN_PX, VIEW_PX + CAPTION_PX + MARGIN_PX
    rows = math.ceil(len(thumbnails) / COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * step_x + MARGIN_PX, rows * step_y + 2 * line))
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN_PX, MARGIN_PX), title, fill=TEXT_GREY, font=font)
    for number, one in enumerate(thumbnails):
        left, top = MARGIN_PX + number % COLUMNS * step_x, line + number // COLUMNS * step_y
        sheet.paste(one.picture, (left, top))
        text = fitting_caption(one.name, one.numbers, font)
        draw.text((left, top + VIEW_PX + 3), text, fill=MARKED if one.marked else TEXT_GREY, font=font)
    legend: Mapping[str, np.ndarray] = MASKS[1]
    sheet.paste(draw_legend(legend, font), (MARGIN_PX, sheet.height - line))
    draw.text((sheet.width - MARGIN_PX, sheet.height - line), FOOTER, fill=TEXT_GREY, font=font, anchor="ra")
    return sheet


def fitting_caption(name: str, numbers: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """Name and numbers of a case, not wider than its thumbnail; a long name, such as a UID, keeps its end.

    Example:
        >>> fitting_caption("P001", "lungs 4321 ml", ImageFont.load_default(FONT_PX))
        'P001   lungs 4321 ml'
        >>> fitting_caption("1.2.826." + "0" * 90 + ".42", "lungs 4321 ml", ImageFont.load_default(FONT_PX))[-20:]
        '0.42   lungs 4321 ml'
    """
    text, kept = f"{name}   {numbers}", len(name)
    while font.getlength(text) > 2 * VIEW_PX and kept > 1:
        kept -= 1
        text = f"...{name[-kept:]}   {numbers}"
    return text
