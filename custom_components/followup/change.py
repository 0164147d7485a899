"""What is new and what has resolved between two infection masks on one grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from custom_components.reports.display import Display
from custom_components.reports.scan.displayed import SIDES
from custom_components.reports.scan.distribution import ZONES, zone_voxels
from scipy.ndimage import distance_transform_edt, find_objects

# Values of a change map; 0 is neither.
PERSISTING, NEW, RESOLVED = 1, 2, 3
# Error of the registration in the lungs, in mm: a border between infected and healthy lung that moved by no more than
# this does not count as change. Measured, see docs/compare.md.
BORDER_MM = 5.0


@dataclass(frozen=True)
class Change:
    """Change of infection between two scans, on the grid of the later one.

    Args:
        map: 0 background, 1 in both scans, 2 new, 3 resolved, uint8 (X, Y, Z).
        persisting_ml: volume of 1.
        new_ml: volume of 2.
        resolved_ml: volume of 3.
        uncovered_ml: infection of the later scan where the earlier one shows nothing; in none of the above.
    """

    map: np.ndarray
    persisting_ml: float
    new_ml: float
    resolved_ml: float
    uncovered_ml: float


def find_change(
    later: np.ndarray,
    earlier: np.ndarray,
    affine: np.ndarray,
    covered: np.ndarray | None = None,
    border_mm: float = BORDER_MM,
) -> Change:
    """Compare the infection of two scans.

    Args:
        later: infection of the later scan, nonzero inside, shape (X, Y, Z).
        earlier: infection of the earlier scan, registered to the same grid.
        affine: (4, 4) voxel index to RAS mm.
        covered: where the earlier scan has voxels; None means everywhere.
        border_mm: largest shift of a border that does not count.

    Returns:
        The change. All infection of the later scan is either persisting or new, or not covered.

    Example:
        >>> later, earlier = np.zeros((2, 30, 4, 4), bool)
        >>> later[2:12], earlier[4:10], earlier[20:28] = True, True, True  # the first one grew by 2 mm on each side
        >>> change = find_change(later, earlier, np.eye(4), border_mm=3)
        >>> change.persisting_ml, change.new_ml, change.resolved_ml
        (0.16, 0.0, 0.128)
    """
    display = Display(affine)
    one, other = later != 0, earlier != 0
    lost = np.zeros_like(one) if covered is None else one & ~covered
    result = np.zeros(one.shape, np.uint8)
    for box in find_objects((one | other).astype(np.uint8)):  # one box, none without infection
        inside, spacing_mm = one[box] & ~lost[box], display.file_spacing_mm
        part = inside.astype(np.uint8)
        part[beyond_border(inside, other[box], spacing_mm, border_mm)] = NEW
        part[beyond_border(other[box], one[box], spacing_mm, border_mm)] = RESOLVED
        result[box] = part
    counts = np.bincount(result.ravel(), minlength=RESOLVED + 1) * display.voxel_ml
    persisting_ml, new_ml, resolved_ml = counts[PERSISTING:].round(6).tolist()
    return Change(result, persisting_ml, new_ml, resolved_ml, float(np.count_nonzero(lost)) * display.voxel_ml)


def beyond_border(mask: np.ndarray, other: np.ndarray, spacing_mm: Sequence[float], border_mm: float) -> np.ndarray:
    """What one mask has and the other has not, without rims that a shift by ``border_mm`` explains.

    Voxels of the mask farther than ``border_mm`` from the other mask count, and with them what lies within
    ``border_mm`` of these and outside the other mask: where a lesion grew more, it counts from its old border on.

    Args:
        mask: bool (X, Y, Z).
        other: the other mask, same shape.
        spacing_mm: voxel size of each axis.
        border_mm: thickness of a rim that does not count.

    Returns:
        bool (X, Y, Z).
    """
    only = mask & ~other
    if not only.any() or not other.any():
        return only
    far = only & (distance_transform_edt(~other, sampling=spacing_mm) > border_mm)
    if not far.any():
        return far
    near_far: np.ndarray = distance_transform_edt(~far, sampling=spacing_mm) <= border_mm
    return only & near_far


def by_zone_ml(mask: np.ndarray, lungs: np.ndarray, affine: np.ndarray) -> dict[str, dict[str, float]]:
    """Volume of a mask in each lung's upper, middle and lower third of its height.

    Args:
        mask: nonzero inside, shape (X, Y, Z).
        lungs: 0 background, 1 left, 2 right lung, same shape.
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        ml by side and zone; what is outside the lungs is not counted.
    """
    display = Display(affine)
    lung, there = (display.turned(array) for array in (lungs, np.where(mask != 0, lungs, 0)))
    per_slice = [
        np.stack([np.count_nonzero(part == value, axis=(0, 1)) for value in SIDES.values()]) for part in (lung, there)
    ]
    counts = zone_voxels(per_slice[0], per_slice[1])[..., 1]
    return {
        side: {zone: float(counts[row, third]) * display.voxel_ml for third, zone in enumerate(ZONES)}
        for row, side in enumerate(SIDES)
    }
