"""Pictures of lung and infection masks on CT slices: truth beside prediction."""

from collections.abc import Mapping, Sequence

import numpy as np
from custom_components.labels import INFECTION, LUNG
from custom_components.pictures.attention import INFECTION_COLOUR, LUNG_COLOUR
from custom_components.pictures.overlay import FONT_PX, FOOTER, MARGIN_PX, MIN_PANEL_PX, TEXT_GREY, mark_sides
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

# Share of the infection's colour inside its contour.
OPACITY = 0.35

_LEGEND = {"lung": LUNG_COLOUR, "infection": INFECTION_COLOUR}
_MIN_WIDTH_PX = 480


def outlined_rgb(grey: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A slice with the outline of the lungs and the infection tinted.

    Args:
        grey: grey in [0, 1], shape (X, Y), x to the patient's left, y to posterior.
        label: 0 background, 1 lung, 2 infection, same shape.

    Returns:
        RGB 0..255, uint8, shape (Y, X, 3).

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> outlined_rgb(np.zeros((5, 6)), np.zeros((5, 6))).max()
        np.uint8(0)
    """
    if grey.ndim != 2 or grey.shape != label.shape:
        raise ValueError(f"Expected a slice (X, Y) and its label map, got {grey.shape} and {label.shape}.")
    rgb = np.repeat(np.clip(grey, 0, 1).T[..., None] * 255.0, 3, axis=2)
    for value, colour in ((LUNG, LUNG_COLOUR), (INFECTION, INFECTION_COLOUR)):
        mask = np.greater_equal(label, value).T
        share = (mask & ~binary_erosion(mask)).astype(float)
        if value == INFECTION:
            share = np.maximum(share, OPACITY * mask)
        rgb += share[..., None] * (np.array(colour) - rgb)
    return rgb.round().astype(np.uint8)


def draw_masks(
    grey: np.ndarray, labels: Mapping[str, np.ndarray], title: str, pixel_mm: Sequence[float] = (1.0, 1.0)
) -> Image.Image:
    """Draw a slice: the CT, beside it each label map over it, a legend below.

    Args:
        grey: grey in [0, 1], shape (X, Y), x to the patient's left, y to posterior.
        labels: name to label map (0 background, 1 lung, 2 infection), shape (X, Y); one panel each.
        title: text above.
        pixel_mm: pixel size along x and y.

    Returns:
        RGB image, the patient's right on the viewer's left, anterior up, in true proportion.

    Raises:
        ValueError: when a label map is not on the grid of the slice.
    """
    panels = {"CT": outlined_rgb(grey, np.zeros_like(grey))}
    panels |= {name: outlined_rgb(grey, label) for name, label in labels.items()}
    scale = max(1.0, MIN_PANEL_PX * min(pixel_mm) / max(np.array(grey.shape) * pixel_mm))
    sides = (pixels * step / min(pixel_mm) * scale for pixels, step in zip(grey.shape, pixel_mm, strict=True))
    width, height = (max(1, round(side)) for side in sides)
    row = FONT_PX + MARGIN_PX
    total = max(_MIN_WIDTH_PX, len(panels) * (width + MARGIN_PX) + MARGIN_PX)
    picture = Image.new("RGB", (total, height + 3 * row + 2 * MARGIN_PX))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    draw.text((MARGIN_PX, MARGIN_PX // 2), title, fill=TEXT_GREY, font=font)
    for number, (name, rgb) in enumerate(panels.items()):
        left = MARGIN_PX + number * (width + MARGIN_PX)
        picture.paste(Image.fromarray(rgb).resize((width, height), Image.Resampling.NEAREST), (left, 2 * row))
        draw.text((left, row + MARGIN_PX // 2), name, fill=TEXT_GREY, font=font)
        mark_sides(draw, font, (left, 2 * row), (width, height))
    _draw_legend(draw, font, height + 2 * row + MARGIN_PX, total)
    return picture


def _draw_legend(
    draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, top: int, width: int
) -> None:
    left = float(MARGIN_PX)
    for name, colour in _LEGEND.items():
        draw.rectangle((left, top, left + FONT_PX, top + FONT_PX), fill=colour)
        draw.text((left + FONT_PX + 5, top), name, fill=TEXT_GREY, font=font)
        left += FONT_PX + 5 + draw.textlength(name, font=font) + 2 * MARGIN_PX
    draw.text((width - MARGIN_PX, top), FOOTER, fill=TEXT_GREY, font=font, anchor="ra")
