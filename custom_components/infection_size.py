"""Infection size: the ratio of infection volume to lung volume, and the paper's groups of it."""

import math
from collections.abc import Iterable

# Class labels: COVID-19 is the positive class.
COVID, CAP = 1, 0

CLASS_NAMES = {COVID: "covid", CAP: "cap"}
# Scans without pneumonia, which data sets may list: their label, and their class where there are three. The two-class
# classifier of the paper has no such class.
NORMAL, NORMAL_CLASS = "normal", 2
THREE_CLASSES = {**CLASS_NAMES, NORMAL_CLASS: NORMAL}

COVID_SMALL_BELOW = 0.030
# Thresholds on the ratio (Sec. III-C): COVID-19 below 0.030 is small, CAP above 0.001 is large.
CAP_LARGE_ABOVE = 0.001

SIZE_GROUPS = ("covid_small", "covid_large", "cap_small", "cap_large")

# Digits shown of a whole number in a message.
MOST_DIGITS = 12

# Bands of the ratio in the paper's tables; both ends belong to the middle one.
BAND_BORDERS = (0.005, 0.030)
RATIO_BANDS = ("< 0.005", "0.005 - 0.030", "> 0.030")


def size_group(
    label: int, ratio: float, covid_small_below: float = COVID_SMALL_BELOW, cap_large_above: float = CAP_LARGE_ABOVE
) -> str:
    """Group of a scan in size-balanced sampling (Ouyang et al. 2020, Sec. III-C).

    Args:
        label: 1 for COVID-19, 0 for CAP.
        ratio: infection volume / lung volume, 0 to 1.
        covid_small_below: COVID-19 with a smaller ratio is small.
        cap_large_above: CAP with a greater ratio is large.

    Returns:
        One of ``SIZE_GROUPS``.

    Raises:
        ValueError: when the label or the ratio is not valid.

    Example:
        >>> size_group(COVID, 0.0299), size_group(COVID, 0.03), size_group(CAP, 0.001), size_group(CAP, 0.0011)
        ('covid_small', 'covid_large', 'cap_small', 'cap_large')
    """
    if label not in CLASS_NAMES:
        raise ValueError(f"label is {label!r}. Expected 1 (COVID-19) or 0 (CAP).")
    check_ratio(ratio)
    if label == COVID:
        return "covid_small" if ratio < covid_small_below else "covid_large"
    return "cap_large" if ratio > cap_large_above else "cap_small"


def scan_group(label: int, ratio: float) -> str:
    """Size group of a scan with COVID-19 or CAP, ``normal`` for a normal one, whose infection has no size.

    Example:
        >>> scan_group(COVID, 0.01), scan_group(NORMAL_CLASS, 0.0)
        ('covid_small', 'normal')
    """
    if label != NORMAL_CLASS:
        return size_group(label, ratio)
    check_ratio(ratio)
    return NORMAL


def groups_of(labels: Iterable[int]) -> tuple[str, ...]:
    """The groups of a data set with these labels: the size groups, and ``normal`` if there are normal scans.

    Example:
        >>> groups_of([0, 1, 2])
        ('covid_small', 'covid_large', 'cap_small', 'cap_large', 'normal')
    """
    return (*SIZE_GROUPS, NORMAL) if NORMAL_CLASS in labels else SIZE_GROUPS


def ratio_band(ratio: float) -> str:
    """Ratio band in the paper's tables; an empty string for an unknown ratio (NaN).

    Example:
        >>> ratio_band(0.0049), ratio_band(0.005), ratio_band(0.030), ratio_band(0.0301), ratio_band(math.nan)
        ('< 0.005', '0.005 - 0.030', '0.005 - 0.030', '> 0.030', '')
    """
    if math.isnan(ratio):
        return ""
    check_ratio(ratio)
    low, high = BAND_BORDERS
    return RATIO_BANDS[0] if ratio < low else RATIO_BANDS[1] if ratio <= high else RATIO_BANDS[2]


def check_ratio(ratio: float, case: str = "") -> None:
    """Check that a number can be infection volume / lung volume.

    Args:
        ratio: infection volume / lung volume.
        case: name of the case, for the message.

    Raises:
        ValueError: when it is not between 0 and 1.
    """
    if not 0 <= ratio <= 1:
        prefix = f"Case {case}: " if case else ""
        number = f"{ratio:g}" if isinstance(ratio, float) else str(ratio)[:MOST_DIGITS]
        raise ValueError(
            f"{prefix}infection ratio is {number}. Expected infection volume / lung volume, 0 to 1. Check that the "
            "two masks are not swapped and that the lung mask covers both lungs, including diseased parts."
        )
