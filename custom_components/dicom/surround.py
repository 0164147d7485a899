"""Set voxels outside the scanner's field of view to air."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

AIR_HU = -1024.0
# Range of measured values: from air with noise to dense bone, contrast and most metal.
MEASURED_HU = (-1100.0, 4000.0)
# Padding declared with one of these values already is air.
AS_AIR_HU = (-1100.0, -950.0)
# A smaller share of a slice is noise in a corner.
LEAST_SHARE = 0.0005
_WITH_DIAGONALS = np.ones((3, 3), bool)


def fill_surround(hu: np.ndarray, declared_hu: Sequence[tuple[float, float] | None] = ()) -> tuple[int, list[float]]:
    """Set the surround of slices to air, in place.

    The surround are all regions connected to a corner of the slice that lie below -1100 or above 4000 HU, or are
    declared as padding. Nothing inside the body is changed, because metal and contrast do not reach the corners.

    Args:
        hu: (slices, rows, columns).
        declared_hu: lowest and highest HU of each slice's padding; None for a slice without declared padding.

    Returns:
        Count of changed slices, and the lowest and highest replaced value.

    Example:
        >>> hu = np.full((1, 40, 50), 30.0)
        >>> hu[0, :10], hu[0, 20, 20] = 62512.0, 9000.0
        >>> fill_surround(hu), hu[0, 0, 0].item(), hu[0, 20, 20].item()
        ((1, [62512.0, 62512.0]), -1024.0, 9000.0)
    """
    found: list[float] = []
    changed = 0
    for number, hu_slice in enumerate(hu):
        surround = _surround(hu_slice, declared_hu[number] if declared_hu else None)
        if surround is not None:
            values = hu_slice[surround]
            found = [float(min([*found, values.min()])), float(max([*found, values.max()]))]
            hu_slice[surround] = AIR_HU
            changed += 1
    return changed, found


def surround_note(changed: int, slices: int, found: Sequence[float]) -> str:
    """A phrase that says what was changed; empty when nothing was."""
    if not changed:
        return ""
    low, high = found
    values = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return f"{values} HU outside the field of view is set to air ({AIR_HU:g}) in {changed} of {slices} slices"


def _surround(hu_slice: np.ndarray, declared_hu: tuple[float, float] | None) -> np.ndarray | None:
    """Mask of the surround; None when there is none."""
    if declared_hu is not None and AS_AIR_HU[0] <= declared_hu[0] and declared_hu[1] <= AS_AIR_HU[1]:
        declared_hu = None
    corners = _outside(hu_slice[:: max(1, hu_slice.shape[0] - 1), :: max(1, hu_slice.shape[1] - 1)], declared_hu)
    if not corners.any():
        return None
    labels, _ = ndimage.label(_outside(hu_slice, declared_hu), _WITH_DIAGONALS)
    at_corners = labels[:: max(1, labels.shape[0] - 1), :: max(1, labels.shape[1] - 1)]
    surround = np.isin(labels, at_corners[at_corners > 0])
    return surround if np.count_nonzero(surround) >= LEAST_SHARE * surround.size else None


def _outside(hu: np.ndarray, declared_hu: tuple[float, float] | None) -> np.ndarray:
    outside = (hu < MEASURED_HU[0]) | (hu > MEASURED_HU[1])
    if declared_hu is not None:
        outside |= (hu > declared_hu[0] - 0.5) & (hu < declared_hu[1] + 0.5)
    return outside
