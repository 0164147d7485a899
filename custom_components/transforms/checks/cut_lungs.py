"""Lungs that reach the border of a scan: a part of them is missing."""

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes

# Area of lung on the border of a scan from which the lungs count as cut; the lowest rim of a lung is smaller.
CUT_MM2 = 1000.0

# Borders of a scan by the direction in which they lie, and the opposite directions.
_BORDERS = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "upper", "I": "lower"}
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))


def cut_lungs(lungs: np.ndarray, affine: np.ndarray) -> list[str]:
    """Borders of the scan that the lungs reach, with the area of lung there.

    Args:
        lungs: nonzero inside the lungs, shape (X, Y, Z), stored in any orientation.
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        Phrases; empty when the lungs are whole.

    Example:
        >>> lungs = np.zeros((50, 40, 30), np.uint8)
        >>> lungs[5:45, 5:35, 5:] = 1
        >>> cut_lungs(lungs, np.diag([-3.0, -3.0, 5.0, 1.0]))
        ['lungs are cut at the upper border of the scan (108 cm2)']
    """
    steps_mm, found = voxel_sizes(affine), []
    for axis, direction in enumerate(aff2axcodes(affine)):
        for index, towards in ((0, _OPPOSITE[direction]), (-1, direction)):
            pixels = np.count_nonzero(np.take(lungs, index, axis=axis))
            area_mm2 = pixels * float(np.prod(np.delete(steps_mm, axis)))
            if area_mm2 >= CUT_MM2:
                where = f"{_BORDERS[towards]} border of the scan"
                found.append(f"lungs are cut at the {where} ({area_mm2 / 100:.0f} cm2)")
    return found
