"""Recover evenly spaced slice positions that the scanner rounded."""

import numpy as np
from scipy.optimize import linprog

# More decimals are floating-point error, not rounding.
MOST_DECIMALS = 4


def half_last_digit_mm(coordinates_mm: np.ndarray) -> float:
    """Half of the last decimal digit of coordinates along one axis: the largest possible rounding error.

    Args:
        coordinates_mm: coordinates; trailing zeros and float errors are ignored.

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
    """Largest distance of positions from the closest evenly spaced grid (a Chebyshev line).

    Args:
        heights_mm: increasing positions, at least two.

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
