"""Convert stored values to HU, and repair signed values that are declared unsigned, in DICOM and NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Air to water: the range of the upper half of unsigned values if they are really signed.
NEGATIVE_HU = (-1100.0, 0.0)
LEAST_NEGATIVE = 0.01
READ_AS_SIGNED = "its values are declared unsigned but are signed: read as signed"


@dataclass(frozen=True)
class StoredValues:
    """The value mapping of one image: HU = slope x stored + intercept.

    Args:
        slope: RescaleSlope.
        intercept: RescaleIntercept.
        bits: BitsStored.
        signed: PixelRepresentation.
        padding: PixelPaddingValue and PixelPaddingRangeLimit as stored, in increasing order; None when missing.
    """

    slope: float
    intercept: float
    bits: int
    signed: bool
    padding: tuple[int, int] | None = None

    @classmethod
    def of(cls, header: Dataset) -> StoredValues:
        """Read them from a checked header."""
        bits, signed = int(header.BitsStored), int(header.PixelRepresentation) == 1
        ends = [_stored(header.get(name), bits, signed) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
        first, last = ends[0], ends[1] if ends[1] is not None else ends[0]
        padding = None if first is None or last is None else (min(first, last), max(first, last))
        return cls(float(header.RescaleSlope), float(header.RescaleIntercept), bits, signed, padding)

    def hu(self, stored: float) -> float:
        """HU of a stored value."""
        return self.slope * stored + self.intercept

    @property
    def padding_hu(self) -> tuple[float, float] | None:
        """Lowest and highest padding value in HU; None when there is none."""
        if self.padding is None:
            return None
        low, high = sorted(map(self.hu, self.padding))
        return low, high


def _stored(value: object, bits: int, signed: bool) -> int | None:
    """Padding value as stored in the pixels; its tag may differ from them in sign and bit depth."""
    try:
        number = int(value) % (1 << bits)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    return number - (1 << bits) if signed and number >> (bits - 1) else number


def read_as_signed(hu: np.ndarray, values: Sequence[StoredValues]) -> bool:
    """Repair, in place, a volume whose signed values are declared unsigned, so that air seems denser than metal.

    This is detected when more than 1 % of all voxels lie above all other values as stored, but between air and water
    when the upper half of the stored values is read as negative.

    Args:
        hu: (slices, rows, columns).
        values: value mapping of each slice.

    Returns:
        Whether the volume was changed.
    """
    upper = [
        None if one.signed else hu_slice >= one.hu(1 << (one.bits - 1))
        for hu_slice, one in zip(hu, values, strict=True)
    ]
    if not any(mask is not None and mask.any() for mask in upper):
        return False
    negative = 0
    for hu_slice, one, mask in zip(hu, values, upper, strict=True):
        if mask is not None:
            read = hu_slice[mask] - one.slope * (1 << one.bits)
            negative += int(np.count_nonzero((read > NEGATIVE_HU[0]) & (read < NEGATIVE_HU[1])))
    if negative < LEAST_NEGATIVE * hu.size:
        return False
    for hu_slice, one, mask in zip(hu, values, upper, strict=True):
        if mask is not None:
            hu_slice[mask] -= one.slope * (1 << one.bits)
    return True


def nifti_hu(image: Any) -> tuple[np.ndarray, bool]:
    """Values of a NIfTI CT; signed values that are declared unsigned are repaired, as for DICOM.

    Args:
        image: nibabel image.

    Returns:
        HU, and whether they were read as signed. 8-bit values cannot be HU and are not changed.

    Example:
        >>> from nibabel import Nifti1Image
        >>> stored = np.array([[[-800, 40]]], np.int16).view(np.uint16)
        >>> hu, was_unsigned = nifti_hu(Nifti1Image.from_bytes(Nifti1Image(stored, np.eye(4)).to_bytes()))
        >>> hu.ravel().tolist(), was_unsigned
        ([-800.0, 40.0], True)
    """
    array, dtype = np.asanyarray(image.dataobj), image.get_data_dtype()
    if dtype.kind != "u" or dtype.itemsize == 1:
        return array, False
    values = StoredValues(float(image.dataobj.slope), float(image.dataobj.inter), 8 * dtype.itemsize, signed=False)
    if array.size == 0 or array.max() < values.hu(1 << (values.bits - 1)):
        return array, False
    hu = np.array(array, dtype=np.float64)
    return hu, read_as_signed(hu, [values] * len(hu))
