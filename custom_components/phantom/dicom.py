"""Phantoms as DICOM series, with difficulties of real ones: unsorted file names and a localizer in the study."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components.files.atomic import atomic_path, new_folder, writable_folder
from custom_components.labels import LUNG_WINDOW_HU
from custom_components.phantom.generate import make_volume
from custom_components.phantom.nifti import phantom_hu
from custom_components.phantom.phantom import Phantom

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

RESCALE_INTERCEPT_HU = -1024
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)


def write_dicom(
    phantom: Phantom,
    folder: str | Path,
    window: tuple[float, float] = LUNG_WINDOW_HU,
    patient_id: str = "PHANTOM-0000",
    shuffle: bool = True,
    compressed: bool = False,
) -> Path:
    """Write a phantom as one axial CT series, one file per slice.

    Args:
        phantom: the phantom.
        folder: folder of the files; created if missing.
        window: HU range that viewers should show.
        patient_id: PatientID of all files.
        shuffle: whether the order of the file names differs from that of the slices.
        compressed: write RLE Lossless instead of raw pixels.

    Returns:
        The folder.
    """
    target = writable_folder(folder)
    stored = (phantom_hu(phantom) - RESCALE_INTERCEPT_HU).astype(np.uint16)
    names = np.random.default_rng(phantom.seed).permutation(stored.shape[2]) if shuffle else range(stored.shape[2])
    for index, name in enumerate(names):
        dataset = _ct_slice(phantom, stored[:, :, index].T, index, patient_id, window)
        _save(dataset, target / f"IM{name:04d}.dcm", compressed)
    return target


def write_localizer(phantom: Phantom, folder: str | Path, patient_id: str = "PHANTOM-0000") -> Path:
    """Write the coronal localizer of a phantom: a separate series with one image in the same study.

    Args:
        phantom: the phantom; the image is its mean over y.
        folder: folder of the file; created if missing.
        patient_id: PatientID of the file.

    Returns:
        The file, ``localizer.dcm``.
    """
    stored = (phantom_hu(phantom) - RESCALE_INTERCEPT_HU).astype(np.uint16)
    projection = np.rint(stored.mean(axis=1)).astype(np.uint16)[:, ::-1].T
    x, y, z = phantom.first_voxel_mm
    top = z + (stored.shape[2] - 1) * phantom.spacing_mm[2]
    dataset = _ct_image(phantom, projection, "localizer", 0, patient_id, LUNG_WINDOW_HU)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.SeriesNumber, dataset.SeriesDescription = 1, "Localizer"
    _set_geometry(dataset, (x, y, top), CORONAL, (phantom.spacing_mm[2], phantom.spacing_mm[0]))
    path = Path(folder) / "localizer.dcm"
    _save(dataset, path, compressed=False)
    return path


def phantom_uid(phantom: Phantom, *purpose: object) -> str:
    """DICOM UID that depends only on the phantom (seed, shape and spacing) and the words of ``purpose``."""
    from pydicom.uid import generate_uid

    identity = (phantom.seed, phantom.label.shape, phantom.spacing_mm, phantom.centre_mm)
    return str(generate_uid(entropy_srcs=["covid_phantom", repr(identity), repr(purpose)]))


def _ct_slice(
    phantom: Phantom, pixels: np.ndarray, index: int, patient_id: str, window: tuple[float, float]
) -> "FileDataset":
    dataset = _ct_image(phantom, pixels, "axial", index, patient_id, window)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesNumber, dataset.SeriesDescription = 2, "Synthetic chest CT"
    x, y, z = phantom.first_voxel_mm
    position = (x, y, z + index * phantom.spacing_mm[2])
    _set_geometry(dataset, position, AXIAL, (phantom.spacing_mm[1], phantom.spacing_mm[0]))
    dataset.SliceThickness = _decimal(phantom.spacing_mm[2])
    dataset.SliceLocation = _decimal(position[2])
    return dataset


def _ct_image(
    phantom: Phantom, pixels: np.ndarray, series: str, index: int, patient_id: str, window: tuple[float, float]
) -> "FileDataset":
    """A DICOM image without its geometry: identifiers, pixel format and pixels."""
    from pydicom.dataset import FileDataset

    uid = phantom_uid(phantom, series, index)
    dataset = FileDataset("", {}, file_meta=_file_meta(uid), preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT_IMAGE_STORAGE, uid
    dataset.StudyInstanceUID = phantom_uid(phantom, "study")
    dataset.SeriesInstanceUID = phantom_uid(phantom, series)
    dataset.FrameOfReferenceUID = phantom_uid(phantom, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.PatientName, dataset.PatientID = "Phantom^Synthetic", patient_id
    dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200401", "120000", "1"
    dataset.Modality, dataset.Manufacturer, dataset.BodyPartExamined = "CT", "custom_components.phantom", "CHEST"
    dataset.PatientPosition, dataset.KVP = "HFS", "120"
    dataset.AcquisitionNumber, dataset.InstanceNumber = 1, index + 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = RESCALE_INTERCEPT_HU, 1, "HU"
    dataset.WindowCenter = _decimal(sum(window) / 2)
    dataset.WindowWidth = _decimal(window[1] - window[0])
    _set_pixels(dataset, pixels)
    return dataset


def _file_meta(instance_uid: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(CT_IMAGE_STORAGE)
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = UID(EXPLICIT_VR_LITTLE_ENDIAN)
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta


def _set_pixels(dataset: "FileDataset", pixels: np.ndarray) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()


def _set_geometry(
    dataset: "FileDataset",
    position_mm: tuple[float, float, float],
    orientation: tuple[int, ...],
    row_and_column_mm: tuple[float, float],
) -> None:
    dataset.ImagePositionPatient = [_decimal(value) for value in position_mm]
    dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing = [_decimal(value) for value in row_and_column_mm]


def _decimal(value: float) -> str:
    """A number as DICOM writes it: at most 16 characters."""
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(round(value, 9)))


def _save(dataset: "FileDataset", path: Path, compressed: bool) -> None:
    if compressed:
        uid = dataset.SOPInstanceUID
        _set_byte_order(dataset)
        dataset.compress(RLE_LOSSLESS)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    write_dicom_file(dataset, path)


def write_dicom_file(dataset: "Dataset", path: Path) -> None:
    """Write a little-endian data set as a DICOM file, atomically, with pydicom 2 or 3.

    Args:
        dataset: with its file meta information.
        path: file to write.
    """
    from pydicom import dcmwrite

    _set_byte_order(dataset)
    conforming = {"write_like_original": False} if _pydicom_before_3() else {"enforce_file_format": True}
    with atomic_path(path) as temporary:
        dcmwrite(temporary, dataset, **conforming)


def _set_byte_order(dataset: "Dataset") -> None:
    if _pydicom_before_3():  # pydicom 3 derives it from the transfer syntax
        dataset.is_little_endian, dataset.is_implicit_VR = True, False


def _pydicom_before_3() -> bool:
    from pydicom import __version_info__

    return int(__version_info__[0]) < 3


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
