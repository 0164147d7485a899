"""Read a DICOM series in HU: uncompressed files directly (ten times faster), others with ITK."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.dicom.files import read_dicom
from custom_components.dicom.header_text import plain_text
from custom_components.dicom.series import DicomSeries
from custom_components.dicom.surround import fill_surround, surround_note
from custom_components.dicom.values import READ_AS_SIGNED, read_as_signed

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def series_volume(series: DicomSeries, case: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a series that was checked to form a volume.

    Uncompressed little-endian files of 16 bits are read directly, all others with ITK; the values are the same. Voxels
    outside the field of view are set to air.

    Args:
        series: its files in slice order.
        case: name of the case in messages.

    Returns:
        CT in HU, float32, shape (X, Y, Z), z slowest in memory; and notes on irregularities.

    Raises:
        ValueError: names the case when a file cannot be read.
    """
    columns, rows, slices = series.shape
    volume = np.empty((slices, rows, columns), np.float32)
    for hu, path in zip(volume, series.files, strict=True):
        if not _read_plain(path, hu):
            volume = _read_any(series, case).reshape(volume.shape)
            break
    notes = [READ_AS_SIGNED] if read_as_signed(volume, series.values) else []
    changed, found = fill_surround(volume, [one.padding_hu for one in series.values])
    notes += [note] if (note := surround_note(changed, slices, found)) else []
    return volume.transpose(2, 1, 0), (*series.notes, *notes)


def _read_plain(path: Path, hu: np.ndarray) -> bool:
    """Read one slice (rows, columns) into ``hu``; False when the file is not plain."""
    image = read_dicom(path)
    stored = _plain_pixels(image, hu.shape)
    if stored is None:
        return False
    slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    exact = slope.is_integer() and intercept.is_integer()
    rescaled = np.multiply(stored, slope, dtype=np.float32 if exact else np.float64, casting="same_kind")
    np.add(rescaled, intercept, out=hu, casting="same_kind")
    return True


def _plain_pixels(image: Any, shape: Sequence[int]) -> np.ndarray | None:
    """Stored values (rows, columns); None when they are compressed or in another format."""
    if image.file_meta.TransferSyntaxUID not in (IMPLICIT, EXPLICIT) or image.get("BitsAllocated") != 16:
        return None
    if len(image.PixelData) < 2 * shape[0] * shape[1]:
        return None
    signed = image.PixelRepresentation == 1
    stored = np.frombuffer(image.PixelData, "<i2" if signed else "<u2", count=shape[0] * shape[1]).reshape(shape)
    bits = int(image.BitsStored)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    # Larger values are overlays in unused bits, or signs that are not extended.
    return stored if low <= stored.min() and stored.max() <= high else None


def _read_any(series: DicomSeries, case: str) -> np.ndarray:
    """Slices (Z, rows, columns) of exactly the checked files; GDCM's own sorting could split the series."""
    import itk

    try:
        return itk.array_from_image(itk.imread([str(file) for file in series.files], pixel_type=itk.F))
    except RuntimeError:  # it does not name the file
        for file, name in zip(series.files, series.names, strict=True):
            _read_one(file, f"Case {case}: {name}")
        raise


def _read_one(file: Path, which: str) -> None:
    import itk

    try:
        itk.imread(str(file))
    except Exception as error:
        raise ValueError(
            f"{which} is truncated or not a DICOM file: {plain_text(error) or type(error).__name__}. "
            "Copy or export the series again."
        ) from error
