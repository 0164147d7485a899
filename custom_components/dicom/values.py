"""How stored values become HU, and what may be wrong with that: of a DICOM image, and of a NIfTI made from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Air to water: what the upper half of unsigned values becomes where the scanner stored signed ones.
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
        padding: PixelPaddingValue and PixelPaddingRangeLimit as stored, in rising order; None when there is none.
    """

    slope: float
    intercept: float
    bits: int
    signed: bool
    padding: tuple[int, int] | None = None

    @classmethod
    def of(cls, header: Dataset) -> StoredValues:
        """Read them from a header whose numbers were proved."""
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
        """Padding in HU, from the lowest to the highest value; None when there is none."""
        if self.padding is None:
            return None
        low, high = sorted(map(self.hu, self.padding))
        return low, high


def _stored(value: object, bits: int, signed: bool) -> int | None:
    """A padding as the pixels hold it: its tag may be signed where these are not, and wider than they are."""
    try:
        number = int(value) % (1 << bits)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None
    return number - (1 << bits) if signed and number >> (bits - 1) else number


def read_as_signed(hu: np.ndarray, values: Sequence[StoredValues]) -> bool:
    """Mend, in place, a volume whose signed values are declared unsigned: its air would be far above any metal.

    That is so where more than 1 % of all voxels lie between air and water once the upper half of the stored values is
    read as negative, and above all else as they are.

    Args:
        hu: (slices, rows, columns).
        values: of each slice.

    Returns:
        Whether that was so.
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
    """Values of a NIfTI image of a CT, whose signed values may be declared unsigned, as of a DICOM series.

    Args:
        image: nibabel image.

    Returns:
        HU, and whether they were read as signed. Eight bits, which hold no HU, stay as they are.

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
