"""Pixels outside a scanner's field of view, which DICOM marks by a value of their own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

AIR_HU = -1024.0
# Nothing of a patient is brighter in 12 bits.
BRIGHTEST_HU = 3071.0


def bright_padding_hu(header: Dataset) -> float | None:
    """What the padding of an image is after rescaling, where that would be a glaring frame around the patient.

    A padding of -2000 that is stored as unsigned 16 bits reads 63536. Padding darker than air harms nobody: windows
    and grids cut it off.

    Args:
        header: of one image, with its numbers proved.

    Returns:
        HU above ``BRIGHTEST_HU``; None for any other padding, or none.
    """
    try:
        stored = int(header.get("PixelPaddingValue"))
    except (TypeError, ValueError):
        return None
    if int(header.PixelRepresentation) == 0:
        stored %= 1 << int(header.BitsAllocated)
    padding_hu = stored * float(header.RescaleSlope) + float(header.RescaleIntercept)
    return padding_hu if math.isfinite(padding_hu) and padding_hu > BRIGHTEST_HU else None


def fill_padding(hu: np.ndarray, padding_hu: float | None) -> None:
    """Turn padding into air, in place.

    Args:
        hu: values in HU, of any shape.
        padding_hu: as ``bright_padding_hu`` gives it.

    Example:
        >>> hu = np.array([40.0, 62512.0])
        >>> fill_padding(hu, 62512.0)
        >>> hu.tolist()
        [40.0, -1024.0]
    """
    if padding_hu is not None:
        hu[np.abs(hu - padding_hu) < 0.5] = AIR_HU
