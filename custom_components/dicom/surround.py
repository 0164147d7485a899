"""What lies around a scanner's field of view, and is not of the patient."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

AIR_HU = -1024.0
# Air and its noise below, dense bone, contrast and most metal above: what is beyond is no measurement.
MEASURED_HU = (-1100.0, 4000.0)
# A padding that is declared as one of these is air as it is.
AS_AIR_HU = (-1100.0, -950.0)
# Less of a slice than this is noise in a corner.
LEAST_SHARE = 0.0005
_WITH_DIAGONALS = np.ones((3, 3), bool)


def fill_surround(hu: np.ndarray, declared_hu: Sequence[tuple[float, float] | None] = ()) -> tuple[int, list[float]]:
    """Turn the surround of slices into air, in place.

    The surround is what hangs together with a corner of its slice and lies far outside any measurement, below -1100 or
    above 4000 HU, or is declared to be padding. Nothing inside the body is changed: metal and contrast do not reach
    the corners.

    Args:
        hu: (slices, rows, columns).
        declared_hu: lowest and highest HU of each slice's padding, None where none is declared; none at all by default.

    Returns:
        How many slices were changed, and the lowest and highest value that was there.

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
    """What was done, in a phrase; empty when nothing was."""
    if not changed:
        return ""
    low, high = found
    values = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return f"the surround of {changed} of {slices} slices was {values} HU and is taken as air ({AIR_HU:g})"


def _surround(hu_slice: np.ndarray, declared_hu: tuple[float, float] | None) -> np.ndarray | None:
    """True on the surround; None when there is none."""
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
