"""Check the numbers in an image's header that give its geometry and its conversion to HU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Count of numbers in each attribute.
COUNTS = {
    "ImagePositionPatient": 3,
    "ImageOrientationPatient": 6,
    "PixelSpacing": 2,
    "Rows": 1,
    "Columns": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 1,
    "BitsAllocated": 1,
    "BitsStored": 1,
    "PixelRepresentation": 1,
}
POSITIVE = ("PixelSpacing", "Rows", "Columns", "BitsAllocated", "BitsStored")
# Largest number of rows or columns: detectors have fewer than 1000 channels, reconstructions up to 2048 pixels.
MAX_SIZE = 8192
# Tolerance of the axes' lengths (1) and of their dot product (0).
AXIS_TOLERANCE = 1e-2


def number_problem(header: Dataset) -> str:
    """Describe what is wrong with the numbers of a header.

    Args:
        header: header of one image with all attributes of ``COUNTS``.

    Returns:
        A phrase to put after the file name; empty when nothing is wrong.
    """
    return next(_problems(header), "")


def finite_numbers(header: Dataset, name: str) -> list[float] | None:
    """Numbers of an attribute of ``COUNTS``; None when their count is wrong or they are not finite."""
    values = np.atleast_1d(np.asarray(header.get(name), dtype=object)).ravel()
    numbers = [_number(value) for value in values]
    return numbers if len(numbers) == COUNTS[name] and all(map(math.isfinite, numbers)) else None


def _problems(header: Dataset) -> Iterator[str]:
    for name, count in COUNTS.items():
        numbers = finite_numbers(header, name)
        if numbers is None:
            yield f"has a {name} that is not {'a finite number' if count == 1 else f'{count} finite numbers'}"
        elif name in POSITIVE and min(numbers) <= 0:
            yield f"has a {name} that is not above 0"
    if float(header.RescaleSlope) == 0:
        yield "has a RescaleSlope of 0, which makes every value the same"
    if int(header.BitsStored) > int(header.BitsAllocated):
        yield "has a BitsStored that is more than its BitsAllocated"
    if max(int(header.Rows), int(header.Columns)) > MAX_SIZE:
        yield f"has {int(header.Rows)} rows and {int(header.Columns)} columns, more than any CT"
    axes = np.asarray(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), rtol=0, atol=AXIS_TOLERANCE):
        yield "has an ImageOrientationPatient that is not two unit vectors at right angles"


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
