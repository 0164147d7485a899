"""Where a classifier looked: attention over the CT, in the manner of Fig. 5 of Ouyang et al. 2020."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from custom_components.pictures.overlay import (
    FONT_PX,
    FOOTER,
    MARGIN_PX,
    MIN_PANEL_PX,
    TEXT_GREY,
    mark_sides,
    window_to_grey,
)
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

LUNG_COLOUR = (51, 146, 255)
# RGB 0..255 of the contours.
INFECTION_COLOUR = (255, 235, 51)

# Share of the heat's colour where the attention is 1; it falls with the attention.
HEAT_OPACITY = 0.7

_COLORMAP = "turbo"
_MAX_PANEL_PX = 640
_MIN_WIDTH_PX = 640  # of the legend
_CONTOUR_PX = 1
_SCALE_PX = 110
_SIDES = {"axial": "RLAP", "coronal": "RLSI"}
_ROW_PX = FONT_PX + MARGIN_PX

_Size = tuple[int, int]
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def heat_rgb(grey: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Lay attention as heat over a grey slice; where it is 0 the slice stays as it is.

    Args:
        grey: grey in [0, 1], any shape.
        attention: attention in [0, 1], same shape.

    Returns:
        RGB in [0, 1], shape (..., 3).

    Example:
        >>> heat_rgb(np.array([0.2]), np.array([0.0])).tolist()
        [[0.2, 0.2, 0.2]]
    """
    heat = matplotlib.colormaps[_COLORMAP](attention)[..., :3]
    opacity = HEAT_OPACITY * np.asarray(attention)[..., None]
    return (1 - opacity) * np.asarray(grey)[..., None] + opacity * heat


def slices_of_interest(
    shape: Sequence[int], *candidates: np.ndarray | None, axes: Sequence[int] = (2, 1)
) -> tuple[int, ...]:
    """Choose the slice across each axis that has most of the first candidate that is not empty.

    Args:
        shape: (X, Y, Z), whose middle is taken when all candidates are empty.
        candidates: masks or attention maps, not negative, shape (X, Y, Z); None is passed over.
        axes: axes to cut across.

    Returns:
        Slice index for each of ``axes``.

    Example:
        >>> infection = np.zeros((5, 6, 7))
        >>> infection[1:3, 4, 5] = 1
        >>> slices_of_interest(infection.shape, None, infection)
        (5, 4)
    """
    for candidate in candidates:
        if candidate is not None and candidate.any():
            others = [tuple(other for other in range(3) if other != axis) for axis in axes]
            return tuple(int(candidate.sum(axis=other, dtype=np.float64).argmax()) for other in others)
    return tuple(shape[axis] // 2 for axis in axes)


def draw_attention(
    image_hu: np.ndarray,
    attention: Mapping[str, np.ndarray],
    spacing_mm: Sequence[float],
    title: str,
    lung: np.ndarray | None = None,
    infection: np.ndarray | None = None,
) -> Image.Image:
    """Draw an axial and a coronal view of a scan and of what a classifier attended to.

    The first column is the CT in the lung window with the contours of lung and infection, then comes a column for each
    attention map. Shown are the slices with most infection; without any, those with most of the first attention map
    inside the lungs, or anywhere; without that, those with most lung.

    All arrays have the shape (X, Y, Z), x to the patient's left, y to posterior, z to superior.

    Args:
        image_hu: CT in HU.
        attention: name to attention in [0, 1].
        spacing_mm: voxel size along x, y, z.
        title: text above.
        lung: lung mask, not 0 inside.
        infection: infection mask, not 0 inside.

    Returns:
        RGB image, the patient's right on the viewer's left, in true proportion and one scale.

    Raises:
        ValueError: when an array is not on the grid of the CT, or an attention is not in [0, 1].
    """
    _check_arrays(image_hu, attention, lung, infection)
    first = next(iter(attention.values()), None)
    inside = first if first is None or lung is None else first * (lung != 0)
    z, y = slices_of_interest(image_hu.shape, infection, inside, first, lung)
    cuts: dict[str, Any] = {"axial": np.s_[:, :, z], "coronal": np.s_[:, y, ::-1]}
    sizes = _panel_sizes(image_hu.shape, spacing_mm)
    rows = {}
    for view, cut in cuts.items():
        grey = _resized(window_to_grey(image_hu[cut]), sizes[view])
        outlined = _outlined(grey, [(lung, LUNG_COLOUR), (infection, INFECTION_COLOUR)], cut)
        heats = [heat_rgb(grey, _resized(np.clip(values[cut], 0, 1), sizes[view])) for values in attention.values()]
        rows[view] = [outlined, *heats]
    contours = {"lung": (lung, LUNG_COLOUR), "infection": (infection, INFECTION_COLOUR)}
    legend = {name: colour for name, (mask, colour) in contours.items() if mask is not None}
    return _composed(rows, ["CT", *attention], title, legend)


def _check_arrays(
    image_hu: np.ndarray, attention: Mapping[str, np.ndarray], lung: np.ndarray | None, infection: np.ndarray | None
) -> None:
    for name, array in {"lung": lung, "infection": infection, **attention}.items():
        if image_hu.ndim != 3 or (array is not None and array.shape != image_hu.shape):
            raise ValueError(
                f"Expected CT and {name} on one grid (X, Y, Z), got {image_hu.shape} and "
                f"{None if array is None else array.shape}. Bring {name} back to the grid of the CT (Invertd)."
            )
    for name, array in attention.items():
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ValueError(
                f"Attention {name!r} has values from {low:g} to {high:g}. Expected 0 to 1: scale it by its minimum and "
                "maximum, and resample it linearly."
            )


def _panel_sizes(shape: Sequence[int], spacing_mm: Sequence[float]) -> dict[str, _Size]:
    """Width and height in display pixels of both views, at one scale, in which axial pixels are not lost."""
    width, depth, height = (count * step for count, step in zip(shape, spacing_mm, strict=True))
    scale = max(1 / min(spacing_mm[:2]), MIN_PANEL_PX / max(width, depth))
    scale = min(scale, _MAX_PANEL_PX / max(width, depth, height))
    extents_mm = {"axial": (width, depth), "coronal": (width, height)}
    return {view: (max(1, round(a * scale)), max(1, round(b * scale))) for view, (a, b) in extents_mm.items()}


def _resized(values: np.ndarray, size: _Size) -> np.ndarray:
    """Slice (X, Y) as rows of display pixels, linearly interpolated."""
    picture = Image.fromarray(np.ascontiguousarray(values.T, dtype=np.float32))
    return np.clip(np.asarray(picture.resize(size, Image.Resampling.BILINEAR)), 0, 1)


def _outlined(
    grey: np.ndarray, masks: Sequence[tuple[np.ndarray | None, tuple[int, int, int]]], cut: tuple
) -> np.ndarray:
    """The grey slice as RGB, with a thin line along the inner border of each mask, drawn at display size."""
    rgb = np.repeat(grey[..., None], 3, axis=2)
    for mask, colour in masks:
        if mask is not None:
            inside = Image.fromarray(np.ascontiguousarray((mask[cut] != 0).T)).resize(grey.shape[::-1])
            filled = np.asarray(inside, dtype=bool)
            rgb[filled & ~binary_erosion(filled, iterations=_CONTOUR_PX)] = np.array(colour) / 255
    return rgb


def _composed(
    rows: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str, legend: Mapping[str, tuple]
) -> Image.Image:
    column_px = rows["axial"][0].shape[1] + MARGIN_PX
    width = max(_MIN_WIDTH_PX, len(names) * column_px + MARGIN_PX)
    height = sum(panels[0].shape[0] + MARGIN_PX for panels in rows.values()) + 3 * _ROW_PX + MARGIN_PX
    picture = Image.new("RGB", (width, height))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    draw.text((MARGIN_PX, MARGIN_PX // 2), title, fill=TEXT_GREY, font=font)
    for column, name in enumerate(names):
        left, top = MARGIN_PX + column * column_px, 2 * _ROW_PX
        draw.text((left, _ROW_PX + MARGIN_PX // 2), name, fill=TEXT_GREY, font=font)
        for view, panels in rows.items():
            panel = Image.fromarray((panels[column] * 255).round().astype(np.uint8))
            picture.paste(panel, (left, top))
            mark_sides(draw, font, (left, top), panel.size, _SIDES[view])
            top += panel.height + MARGIN_PX
    _draw_legend(picture, draw, font, legend, has_heat=len(names) > 1)
    return picture


def _draw_legend(
    picture: Image.Image, draw: ImageDraw.ImageDraw, font: _Font, legend: Mapping[str, tuple], has_heat: bool
) -> None:
    left, top = MARGIN_PX, picture.height - _ROW_PX - MARGIN_PX // 2
    for name, colour in legend.items():
        draw.rectangle((left, top + 2, left + FONT_PX, top + FONT_PX), outline=colour, width=2)
        draw.text((left + FONT_PX + 5, top), name, fill=TEXT_GREY, font=font)
        left += round(FONT_PX + 5 + draw.textlength(name, font=font) + 2 * MARGIN_PX)
    if has_heat:
        draw.text((left, top), "attention 0", fill=TEXT_GREY, font=font)
        left += round(draw.textlength("attention 0", font=font)) + 5
        ramp = np.tile(np.linspace(0, 1, _SCALE_PX), (FONT_PX - 2, 1))
        scale = Image.fromarray((heat_rgb(np.full_like(ramp, 0.3), ramp) * 255).round().astype(np.uint8))
        picture.paste(scale, (left, top + 2))
        draw.text((left + _SCALE_PX + 5, top), "1", fill=TEXT_GREY, font=font)
    draw.text((picture.width - MARGIN_PX, top), FOOTER, fill=TEXT_GREY, font=font, anchor="ra")
