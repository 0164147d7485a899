"""Masks that a person should look at first, and why."""

from collections.abc import Sequence

import numpy as np
from custom_components.transforms.checks.cut_lungs import cut_lungs

# Largest plausible infection volume / lung volume.
MOST_INFECTION = 0.6

EMPTY = "infection is empty"


def suspicious_masks(lungs: np.ndarray, ratio: float, affine: np.ndarray, notes: Sequence[str] = ()) -> tuple[str, ...]:
    """Reasons to look at the masks of a case; none of them proves an error.

    Args:
        lungs: nonzero inside the lungs, shape (X, Y, Z), stored in any orientation.
        ratio: infection volume / lung volume, 0 to 1.
        affine: (4, 4) voxel index to RAS mm.
        notes: reasons that are known already, such as those of :func:`implausible_lungs`.

    Returns:
        Phrases; empty when there is none.

    Example:
        >>> lungs = np.zeros((50, 40, 30), np.uint8)
        >>> lungs[5:45, 5:35, 5:] = 1
        >>> suspicious_masks(lungs, 0.0, np.diag([-3.0, -3.0, 5.0, 1.0]))
        ('lungs are cut at the upper border of the scan (108 cm2)', 'infection is empty')
    """
    found = [*notes, *cut_lungs(lungs, affine)]
    if ratio == 0:
        found.append(EMPTY)
    if ratio > MOST_INFECTION:
        found.append(f"infection is {100 * ratio:.0f} % of the lungs, more than {100 * MOST_INFECTION:.0f} %")
    return tuple(found)
