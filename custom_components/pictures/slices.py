"""Selection of slices to show and the CT window."""

from collections.abc import Sequence

import numpy as np
from custom_components.labels import LUNG_WINDOW_HU


def window_to_grey(image_hu: np.ndarray, window_hu: tuple[float, float] = LUNG_WINDOW_HU) -> np.ndarray:
    """Map CT intensities to grey in the lung window.

    Args:
        image_hu: CT in HU, any shape.
        window_hu: HU shown as black and as white.

    Returns:
        Grey in [0, 1], float32, same shape.

    Example:
        >>> window_to_grey(np.array([-2000.0, -1350.0, -600.0, 150.0, 900.0])).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    low, high = window_hu
    return np.clip((np.asarray(image_hu, dtype=np.float32) - low) / (high - low), 0, 1)


def slices_to_show(
    lesion_pixels: np.ndarray, spacing_mm: float, max_slices: int = 6, gap_mm: float = 10.0
) -> list[int]:
    """Select the slices with most lesion pixels at a minimum distance.

    Args:
        lesion_pixels: lesion pixels of each slice, shape (Z,).
        spacing_mm: distance between neighbouring slices.
        max_slices: maximum number of slices.
        gap_mm: minimum distance between two slices.

    Returns:
        Slice indices in order; the middle slice if there is no lesion.

    Example:
        >>> slices_to_show(np.array([0, 9, 8, 7, 1, 0]), spacing_mm=5.0)
        [1, 3]
    """
    if max_slices > 0 and not np.any(lesion_pixels):
        return [len(lesion_pixels) // 2]
    chosen: list[int] = []
    for index in np.argsort(-np.asarray(lesion_pixels), kind="stable").tolist():
        apart = all(abs(index - other) * spacing_mm >= gap_mm for other in chosen)
        if len(chosen) < max_slices and apart and lesion_pixels[index] > 0:
            chosen.append(index)
    return sorted(chosen)


def most_affected(
    shape: Sequence[int], infection: np.ndarray | None, attention: np.ndarray | None, lung: np.ndarray | None
) -> tuple[int, int]:
    """Select the axial and the coronal slice with most infection.

    Without infection: most attention inside the lungs, or anywhere; without attention: most lung.

    Args:
        shape: (X, Y, Z); the middle slices are used if there is neither.
        infection: mask, shape (X, Y, Z), or None.
        attention: not negative, shape (X, Y, Z), or None.
        lung: mask, shape (X, Y, Z), or None.

    Returns:
        Index along z and along y.

    Example:
        >>> infection = np.zeros((5, 6, 7))
        >>> infection[1:3, 4, 5] = 1
        >>> most_affected(infection.shape, infection, None, None)
        (5, 4)
    """
    inside = attention if attention is None or lung is None else np.where(lung != 0, attention, 0)
    for candidate in (infection, inside, attention, lung):
        if candidate is not None and candidate.any():
            z, y = (int(candidate.sum(axis=axes, dtype=np.float64).argmax()) for axes in ((0, 1), (0, 2)))
            return z, y
    return shape[2] // 2, shape[1] // 2
