"""Overlays on a slice: label colours, attention heat map, mask outlines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.visualize import blend_images
from PIL import Image
from scipy.ndimage import binary_erosion

# RGB 0..255: the green, yellow and blue of Chen et al. 2020, Fig. 5, in shades that colour-blind readers
# can distinguish from each other and from grey.
LESION_COLOURS = {"ground_glass": (69, 230, 130), "consolidation": (255, 235, 51), "pleural_effusion": (51, 146, 255)}
# Outline colours: light, because dark blue is not visible on dark lung; infection unlike each of its lesion classes.
LUNG_COLOUR, INFECTION_COLOUR = (130, 205, 255), (255, 135, 60)

# Brightness increases with the attention, so the order is visible in grey print and to colour-blind readers.
HEAT_COLORMAP = "inferno"
# Opacity of the heat map at attention 1; it decreases with the attention.
HEAT_OPACITY = 0.7
# Attention level of the outline, and its colour.
HALF, HALF_COLOUR = 0.5, (255, 255, 255)


@dataclass(frozen=True)
class Cut:
    """Plane of a volume in display orientation: the patient's right on the viewer's left.

    Attributes:
        place: index into a volume (X, Y, Z) that keeps two axes, the columns and rows of the picture.
        size_px: width and height of the picture.
    """

    place: tuple[Any, ...]
    size_px: tuple[int, int]

    def values(self, volume: np.ndarray) -> np.ndarray:
        """Float32, shape (height, width), linearly interpolated."""
        return self._resized(volume[self.place].astype(np.float32), Image.Resampling.BILINEAR)

    def labels(self, volume: np.ndarray) -> np.ndarray:
        """Uint8, shape (height, width), nearest neighbour: borders do not move."""
        return self._resized(volume[self.place].astype(np.uint8), Image.Resampling.NEAREST)

    def _resized(self, plane: np.ndarray, method: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(np.ascontiguousarray(plane.T)).resize(self.size_px, method))


def blend(
    image: np.ndarray,
    values: np.ndarray,
    opacity: float | np.ndarray,
    colours: str | Sequence[tuple[int, int, int]] = tuple(LESION_COLOURS.values()),
) -> np.ndarray:
    """Blend colours over a picture: a colormap by MONAI's ``blend_images``, or one colour per label.

    Args:
        image: grey in [0, 1], shape (H, W), or RGB, shape (H, W, 3).
        values: shape (H, W): a label map, or numbers in [0, 1] where ``colours`` is a colormap.
        opacity: opacity of the colour, 0 to 1, shape (H, W) or one number.
        colours: RGB 0..255 for the label values 1, 2, ... (other values leave the image unchanged), or the name of a
            matplotlib colormap.

    Returns:
        RGB in [0, 1], float32, shape (H, W, 3).

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> (blend(np.zeros((5, 6)), np.ones((5, 6)), opacity=1)[0, 0] * 255).round().tolist()
        [69.0, 230.0, 130.0]
    """
    if image.shape[:2] != values.shape:
        raise ValueError(f"Expected a slice and an overlay of equal shape, got {image.shape[:2]} and {values.shape}.")
    rgb = (image if image.ndim == 3 else np.stack([image] * 3, axis=-1)).astype(np.float32)
    shares = np.broadcast_to(np.float32(opacity), values.shape)
    if isinstance(colours, str):
        layers = np.moveaxis(rgb, -1, 0), values[None].astype(np.float32), shares[None]
        return np.moveaxis(np.asarray(blend_images(*layers, colours, False, False)), 0, -1)
    for value, colour in enumerate(colours, 1):  # three times faster than a colormap of the whole picture
        there = (values == value) & (shares > 0)
        share = shares[there][:, None]
        rgb[there] = (1 - share) * rgb[there] + share * np.array(colour, np.float32) / 255
    return rgb


def heated(image: np.ndarray, attention: np.ndarray, line_px: int = 1) -> np.ndarray:
    """Blend attention as a heat map over a picture, with a white outline at 0.5.

    Args:
        image: as for :func:`blend`; unchanged where the attention is 0.
        attention: in [0, 1], shape (H, W).
        line_px: width of the line.

    Returns:
        RGB in [0, 1], float32, shape (H, W, 3).

    Example:
        >>> heated(np.array([[0.5]]), np.array([[0.0]])).tolist()
        [[[0.5, 0.5, 0.5]]]
    """
    rgb = blend(image, attention, HEAT_OPACITY * attention, HEAT_COLORMAP)
    rgb[border(attention >= HALF, line_px)] = np.array(HALF_COLOUR) / 255
    return rgb


def check_attention(attention: np.ndarray, name: str) -> None:
    """Check that an attention map is in [0, 1].

    Args:
        attention: any shape.
        name: start of the error message.

    Raises:
        ValueError: if it is not in [0, 1], except for rounding.
    """
    low, high = float(np.min(attention)), float(np.max(attention))
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}. Expected 0 to 1: scale it by its minimum and maximum, and "
            "resample it linearly."
        )


def heat_scale(width: int, height: int) -> np.ndarray:
    """Colour scale of attention 0 to 1, left to right, over dark lung: RGB, shape (height, width, 3)."""
    ramp = np.tile(np.linspace(0, 1, width), (height, 1))
    return blend(np.full_like(ramp, 0.3), ramp, HEAT_OPACITY * ramp, HEAT_COLORMAP)


def border(mask: np.ndarray, line_px: int = 1) -> np.ndarray:
    """Pixels along the inner border of a mask; the edge of the picture is not a border.

    Args:
        mask: shape (H, W).
        line_px: width of the line.

    Example:
        >>> border(np.ones((3, 4))).any(), border(np.eye(3)[1:2]).tolist()
        (np.False_, [[False, True, False]])
    """
    inside = mask != 0
    return inside & ~binary_erosion(inside, iterations=line_px, border_value=1)


def as_picture(rgb: np.ndarray) -> Image.Image:
    """Convert RGB in [0, 1], shape (H, W, 3), to an 8-bit picture."""
    return Image.fromarray((rgb * 255).round().astype(np.uint8))
