"""Read a DICOM series in HU: uncompressed files directly (ten times faster), others with SimpleITK."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from custom_components.dicom.header_text import error_text
from custom_components.dicom.pixels import PixelData
from custom_components.dicom.series import DicomSeries
from custom_components.dicom.surround import fill_surround, surround_note
from custom_components.dicom.values import READ_AS_SIGNED, StoredValues, read_as_signed

_GDCM = "GDCMImageIO"


def series_volume(series: DicomSeries, case: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a series that was checked to form a volume.

    Uncompressed little-endian files of 16 bits are read directly, all others with SimpleITK; the values are the same.
    Voxels outside the field of view are set to air.

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
    for hu, path, pixels, values in zip(volume, series.files, series.pixels, series.values, strict=True):
        if not _read_plain(hu, path, pixels, values):
            volume = _read_any(series, case).reshape(volume.shape)
            break
    notes = [READ_AS_SIGNED] if read_as_signed(volume, series.values) else []
    changed, found = fill_surround(volume, [one.padding_hu for one in series.values])
    notes += [note] if (note := surround_note(changed, slices, found)) else []
    return volume.transpose(2, 1, 0), (*series.notes, *notes)


def _read_plain(hu: np.ndarray, path: Path, pixels: PixelData, values: StoredValues) -> bool:
    """Read one slice (rows, columns) into ``hu``; False when the file is not plain."""
    stored = _plain_pixels(path, pixels, values, hu.shape)
    if stored is None:
        return False
    exact = values.slope.is_integer() and values.intercept.is_integer()
    rescaled = np.multiply(stored, values.slope, dtype=np.float32 if exact else np.float64, casting="same_kind")
    np.add(rescaled, values.intercept, out=hu, casting="same_kind")
    return True


def _plain_pixels(path: Path, pixels: PixelData, values: StoredValues, shape: Sequence[int]) -> np.ndarray | None:
    """Stored values (rows, columns); None when they are compressed, in another format, or cut off meanwhile."""
    if pixels.plain_at is None:
        return None
    kind, count = "<i2" if values.signed else "<u2", shape[0] * shape[1]
    stored = np.fromfile(path, kind, count, offset=pixels.plain_at)
    low, high = (-(1 << values.bits - 1), (1 << values.bits - 1) - 1) if values.signed else (0, (1 << values.bits) - 1)
    # Larger values are overlays in unused bits, or signs that are not extended.
    return stored.reshape(shape) if len(stored) == count and low <= stored.min() and stored.max() <= high else None


def _read_any(series: DicomSeries, case: str) -> np.ndarray:
    """Slices (Z, rows, columns) of exactly the checked files; GDCM's own sorting could split the series."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in series.files])
    reader.SetImageIO(_GDCM)
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    try:
        return SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError:  # it does not name the file
        for file, name in zip(series.files, series.names, strict=True):
            _read_one(file, f"Case {case}: {name}")
        raise


def _read_one(file: Path, which: str) -> None:
    import SimpleITK

    try:
        SimpleITK.ReadImage(str(file), SimpleITK.sitkFloat32, _GDCM)
    except Exception as error:
        raise ValueError(
            f"{which} is truncated or not a DICOM file: {error_text(error)}. Copy or export the series again."
        ) from error
