"""The voxels of a DICOM series in HU, read file by file: quicker than ITK, which takes seconds to be loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.data.ct_reader import CTReader
from custom_components.data.dicom_padding import fill_padding
from custom_components.data.dicom_series import DicomSeries
from custom_components.diagnosis.choose_series import linked

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def series_volume(series: DicomSeries, uid: str) -> np.ndarray:
    """Read a series that was proved to be a volume.

    Plain files, little-endian of 16 bits, are read here; any other series, such as a compressed one, by ``CTReader``.
    The values are the same either way.

    Args:
        series: its files in slice order.
        uid: SeriesInstanceUID, to name it in messages.

    Returns:
        CT in HU, float32, shape (X, Y, Z), z slowest in memory.

    Raises:
        ValueError: naming the series, when a file cannot be read.
    """
    columns, rows, slices = series.shape
    volume = np.empty((slices, rows, columns), np.float32)
    for hu, path in zip(volume, series.files, strict=True):
        if not _read_plain(path, hu):
            return _read_any(series.files, uid)
    fill_padding(volume, series.padding_hu)
    return volume.transpose(2, 1, 0)


def _read_plain(path: Path, hu: np.ndarray) -> bool:
    """Fill in one slice (rows, columns); False when the file is of another kind."""
    from pydicom import dcmread

    image = dcmread(path)
    stored = _plain_pixels(image, hu.shape)
    if stored is None:
        return False
    slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    exact = slope.is_integer() and intercept.is_integer()
    rescaled = np.multiply(stored, slope, dtype=np.float32 if exact else np.float64, casting="same_kind")
    np.add(rescaled, intercept, out=hu, casting="same_kind")
    return True


def _plain_pixels(image: Any, shape: Sequence[int]) -> np.ndarray | None:
    """Stored values (rows, columns); None unless they lie in the file as such."""
    if image.file_meta.TransferSyntaxUID not in (IMPLICIT, EXPLICIT) or image.get("BitsAllocated") != 16:
        return None
    if len(image.PixelData) < 2 * shape[0] * shape[1]:
        return None
    signed = image.PixelRepresentation == 1
    stored = np.frombuffer(image.PixelData, "<i2" if signed else "<u2", count=shape[0] * shape[1]).reshape(shape)
    bits = int(image.BitsStored)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    # Beyond lie overlays in unused bits, or signs that are not extended.
    return stored if low <= stored.min() and stored.max() <= high else None


def _read_any(files: Sequence[Path], uid: str) -> np.ndarray:
    with linked(files, uid, [f"slice {number}" for number in range(len(files))]) as folder:
        reader = CTReader()
        return reader.get_data(reader.read(folder))[0]
