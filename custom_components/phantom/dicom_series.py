"""A synthetic chest CT as a DICOM series."""

from collections.abc import Sequence
from pathlib import Path

from custom_components.data.new_folder import new_folder
from custom_components.phantom.dicom import write_dicom
from custom_components.phantom.generate import make_volume


def write_dicom_series(
    folder: str | Path,
    seed: int = 0,
    shape: Sequence[int] = (128, 128, 48),
    spacing_mm: Sequence[float] = (2.8, 2.8, 6.0),
) -> Path:
    """Write one synthetic chest CT as a DICOM series.

    Args:
        folder: new or empty folder.
        seed: another seed gives another patient.
        shape: voxels along x, y, z.
        spacing_mm: voxel size along x, y, z.

    Returns:
        The folder.
    """
    volume = make_volume(seed, shape, spacing_mm)
    with new_folder(folder) as draft:
        write_dicom(volume, draft)
    return Path(folder)
