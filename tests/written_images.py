from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from custom_components.phantom.dicom import write_dicom_file
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.real_data import real_data

AXIAL = (1, 0, 0, 0, 1, 0)


def ct_image(
    hu: np.ndarray, position_mm, spacing_mm, series_uid="1.2.3", orientation=AXIAL, number=1, **changes
) -> Dataset:
    """One slice, hu[x, y], as stored in a CT archive."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID = series_uid, "1.2", "1.2.9"
    image.PatientName, image.PatientID = "Secret^Person", "ID-SECRET"
    image.Modality, image.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SeriesNumber, image.SeriesDescription, image.InstanceNumber = 4, "Thorax 2.0", number
    image.ImagePositionPatient = [f"{value:.6f}" for value in position_mm]
    image.ImageOrientationPatient = [f"{value:.8f}" for value in orientation]
    image.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
    image.SliceThickness = spacing_mm[2]
    image.Columns, image.Rows = hu.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.RescaleIntercept, image.RescaleSlope = -1024, 1
    image.PixelData = (hu.T + 1024).astype("<u2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    return image


def save(image: Dataset, path: Path) -> None:
    write_dicom_file(image, path)


@pytest.fixture
def write_ct_image() -> Callable[..., None]:
    """Write one slice hu[x, y] of 1 mm voxels."""

    def write(path: Path, hu: np.ndarray, **changes) -> None:
        save(ct_image(hu, (0, 0, 0), (1, 1, 1), **changes), path)

    return write


@pytest.fixture
def hu() -> np.ndarray:
    """A volume [x, y, z] of pairwise different sizes in which every voxel has its own HU."""
    return np.arange(5 * 6 * 7).reshape(5, 6, 7) - 100


@pytest.fixture
def write_series(tmp_path: Path) -> Callable[..., Path]:
    """Write hu[x, y, z] as a series whose file names are not in slice order.

    `edit` maps a slice index to changed attributes; `steps_mm` gives the slice positions along the normal.
    """

    def write(
        hu, name="P012", spacing_mm=(0.5, 0.75, 2.0), origin_mm=(-10, -20, -300), steps_mm=None, drift_mm=0.0,
        edit=None, orientation=AXIAL, **common,
    ) -> Path:  # fmt: skip
        normal = np.cross(orientation[:3], orientation[3:])
        steps_mm = np.arange(hu.shape[2]) * spacing_mm[2] if steps_mm is None else steps_mm
        for k, along_mm in enumerate(steps_mm):
            position = np.asarray(origin_mm) + along_mm * normal + [0, k * drift_mm, 0]
            changes = {**common, **(edit or {}).get(k, {})}
            image = ct_image(hu[..., k], position, spacing_mm, orientation=orientation, number=99 - k, **changes)
            save(image, tmp_path / name / f"{(k * 3) % 7}_slice{k}.dcm")
        return tmp_path / name

    return write


@pytest.fixture
def write_png() -> Callable[..., Path]:
    """Write grey[x, y] as a PNG whose rows are y."""

    def write(path: Path, grey: np.ndarray, mode: str = "L") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(grey, dtype=np.uint8).T).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    def write(path: Path, array: np.ndarray, affine=None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1, 1, 1]) if affine is None else affine), path)
        return path

    return write


@pytest.fixture(name="real_data")
def _real_data() -> Path:
    """Folder of the public CT data."""
    return real_data()
