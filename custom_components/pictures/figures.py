"""Figures of a case: lesions and masks next to the truth, and the attention of a classifier."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from custom_components.labels import INFECTION, LUNG
from custom_components.pictures.overlay import (
    HALF_COLOUR,
    INFECTION_COLOUR,
    LESION_COLOURS,
    LUNG_COLOUR,
    Cut,
    blend,
    border,
    check_attention,
    heat_scale,
    heated,
)
from custom_components.pictures.sheet import draw_sheet, swatch
from custom_components.pictures.slices import most_affected, window_to_grey
from PIL import Image

# Opacity of lesion colours and of the infection tint over the CT.
LESION_OPACITY, INFECTION_OPACITY = 0.65, 0.35

_MASK_COLOURS = (LUNG_COLOUR, INFECTION_COLOUR)  # of label values 1 and 2
_MIN_PX, _MAX_PX = 384, 640  # of the longer side of a panel


def lesion_words(lesion: str) -> str:
    """Name of a lesion class in running text.

    Example:
        >>> lesion_words("ground_glass"), lesion_words("pleural_effusion")
        ('ground-glass', 'pleural effusion')
    """
    return lesion.replace("ground_", "ground-").replace("_", " ")


def outlined_masks(grey: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Draw the outlines of lungs and infection on a slice and tint the infection.

    Args:
        grey: in [0, 1], shape (H, W).
        label: 0 background, 1 lung, 2 infection, shape (H, W).

    Returns:
        RGB in [0, 1], shape (H, W, 3).
    """
    lines = border(label >= LUNG) | border(label >= INFECTION)
    return blend(grey, label, np.where(lines, 1.0, INFECTION_OPACITY * (label == INFECTION)), _MASK_COLOURS)


# Overlay of a label map: drawing function and legend.
LESIONS = partial(blend, opacity=LESION_OPACITY), {lesion_words(name): swatch(c) for name, c in LESION_COLOURS.items()}
MASKS = outlined_masks, {"lung": swatch(LUNG_COLOUR, is_filled=False), "infection": swatch(INFECTION_COLOUR)}


def draw_slice(
    image_hu: np.ndarray,
    labels: Mapping[str, np.ndarray],
    title: str,
    pixel_mm: Sequence[float] = (1.0, 1.0),
    layer: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], Mapping[str, np.ndarray]] = LESIONS,
) -> Image.Image:
    """Draw a slice as in Fig. 5 of Chen et al. 2020: the CT, then each label map over the CT.

    Args:
        image_hu: CT slice in HU, shape (X, Y), x to the patient's left, y to posterior.
        labels: name to label map, shape (X, Y); one panel each.
        title: title of the figure.
        pixel_mm: pixel size along x and y.
        layer: type of the label maps, ``LESIONS`` or ``MASKS``.

    Returns:
        RGB image, the patient's right on the viewer's left, anterior up, with correct aspect ratio.

    Raises:
        ValueError: when a label map is not on the grid of the image.
    """
    for name, label in labels.items():
        if image_hu.ndim != 2 or label.shape != image_hu.shape:
            raise ValueError(
                f"Expected a slice (X, Y) and {name} on one grid, got {image_hu.shape} and {label.shape}. Select one "
                "slice and resample both to one grid."
            )
    over, legend = layer
    sides_mm = np.array(image_hu.shape) * pixel_mm
    cut = Cut(np.s_[:, :], _size_px(sides_mm, _px_per_mm(min(pixel_mm), max(sides_mm))))
    grey = window_to_grey(cut.values(image_hu))
    panels = {name: over(grey, cut.labels(label)) for name, label in labels.items()}
    return draw_sheet({"RL": {"CT": np.stack([grey] * 3, axis=-1), **panels}}, title, legend)


def draw_attention(
    image_hu: np.ndarray,
    attention: Mapping[str, np.ndarray],
    spacing_mm: Sequence[float],
    title: str,
    lung: np.ndarray | None = None,
    infection: np.ndarray | None = None,
) -> Image.Image:
    """Draw an axial and a coronal view of a classifier's attention, as in Fig. 5 of Ouyang et al. 2020.

    The first column is the CT in the lung window with the contours of lung and infection; then one column per
    attention map with the outline at attention 0.5. The slices are those of :func:`most_affected` for the first
    attention map.

    All arrays have the shape (X, Y, Z), x to the patient's left, y to posterior, z to superior.

    Args:
        image_hu: CT in HU.
        attention: name to attention in [0, 1].
        spacing_mm: voxel size along x, y, z.
        title: text above.
        lung: lung mask, not 0 inside.
        infection: infection mask, not 0 inside.

    Returns:
        RGB image, the patient's right on the viewer's left, with correct aspect ratio and one scale.

    Raises:
        ValueError: when an array is not on the grid of the CT, or an attention is not in [0, 1].
    """
    masks = {"lung": lung, "infection": infection}
    _check_arrays(image_hu, attention, masks)
    z, y = most_affected(image_hu.shape, infection, next(iter(attention.values()), None), lung)
    width, depth, height = np.array(image_hu.shape) * spacing_mm
    scale = min(_px_per_mm(min(spacing_mm[:2]), max(width, depth)), _MAX_PX / max(width, depth, height))
    axial = Cut(np.s_[:, :, z], _size_px((width, depth), scale))
    coronal = Cut(np.s_[:, y, ::-1], _size_px((width, height), scale))
    rows = {"RLAP": _attention_row(axial, image_hu, attention, masks)}
    rows["RLSI"] = _attention_row(coronal, image_hu, attention, masks)
    colours = dict(zip(masks, _MASK_COLOURS, strict=True))
    legend = {name: swatch(colours[name], is_filled=False) for name, mask in masks.items() if mask is not None}
    if attention:
        legend |= {
            "attention 0 to 1": heat_scale(110, 16),
            "attention of one half": swatch(HALF_COLOUR, is_filled=False),
        }
    return draw_sheet(rows, title, legend)


def _attention_row(
    cut: Cut, image_hu: np.ndarray, attention: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray | None]
) -> dict[str, np.ndarray]:
    grey = window_to_grey(cut.values(image_hu))
    row = {"CT": np.stack([grey] * 3, axis=-1)}
    for mask, colour in zip(masks.values(), _MASK_COLOURS, strict=True):
        if mask is not None:
            row["CT"][border(cut.labels(mask != 0))] = np.array(colour) / 255
    for name, values in attention.items():
        row[name] = heated(grey, np.clip(cut.values(values), 0, 1))
    return row


def _check_arrays(
    image_hu: np.ndarray, attention: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray | None]
) -> None:
    for name, array in {**masks, **attention}.items():
        if image_hu.ndim != 3 or (array is not None and array.shape != image_hu.shape):
            raise ValueError(
                f"Expected CT and {name} on one grid (X, Y, Z), got {image_hu.shape} and "
                f"{None if array is None else array.shape}. Map {name} back to the grid of the CT (Invertd)."
            )
    for name, array in attention.items():
        check_attention(array, f"Attention {name!r}")


def _px_per_mm(fine_mm: float, longest_mm: float) -> float:
    """Scale that keeps every pixel of the slice and enlarges small slices."""
    return max(1 / fine_mm, _MIN_PX / longest_mm)


def _size_px(sides_mm: Sequence[float] | np.ndarray, px_per_mm: float) -> tuple[int, int]:
    width, height = (max(1, round(side * px_per_mm)) for side in sides_mm)
    return width, height
