"""Where the slices of a series lie along their normal, when the scanner rounded the positions."""

import numpy as np
from scipy.optimize import linprog

# Decimals beyond these are no rounding but what is left of a computation.
MOST_DECIMALS = 4


def half_last_digit_mm(coordinates_mm: np.ndarray) -> float:
    """Half of the last digit that any of some coordinates along one axis has: so much may rounding have moved it.

    Args:
        coordinates_mm: as numbers, whatever zeros and float errors follow the last digit.

    Example:
        >>> half_last_digit_mm(np.array([-171.3, -170.7, -100.0])), half_last_digit_mm(np.array([-171.3000031, 2.0]))
        (0.05, 0.05)
        >>> half_last_digit_mm(np.array([-170.0, -168.0]))
        0.5
    """
    rounded = (
        np.abs(coordinates_mm - np.round(coordinates_mm, digits)).max() < 1e-5 for digits in range(MOST_DECIMALS)
    )
    digits = next((digits for digits, fits in enumerate(rounded) if fits), MOST_DECIMALS)
    return 0.5 * 10.0**-digits


def distance_from_even_mm(heights_mm: np.ndarray) -> float:
    """How far, at the most, positions lie from the even grid that comes closest to them (a Chebyshev line).

    Args:
        heights_mm: rising positions, two at least.

    Example:
        >>> round(distance_from_even_mm(np.array([0.0, 0.6, 1.2, 1.9, 2.5])), 4)
        0.0333
    """
    count = len(heights_mm)
    grid = np.stack([np.ones(count), np.arange(count)], axis=1)
    slack = -np.ones((count, 1))
    found = linprog(
        [0.0, 0.0, 1.0],
        A_ub=np.block([[grid, slack], [-grid, slack]]),
        b_ub=np.concatenate([heights_mm, -heights_mm]),
        bounds=[(None, None), (0, None), (0, None)],
    )
    return float(found.x[2])
