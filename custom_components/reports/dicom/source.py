"""The CT series that DICOM objects refer to. Patient attributes are added last, after all checks and logs."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components._version import __version__
from custom_components.dicom.chest_series import Series
from custom_components.dicom.files import read_dicom
from custom_components.dicom.header_text import plain_text, quiet_pydicom
from custom_components.dicom.identifiers import complete_headers
from custom_components.files.atomic import atomic_path
from custom_components.reports.dicom.frames import image_slices
from custom_components.reports.scan.findings import Model

if TYPE_CHECKING:
    from highdicom.base import SOPClass
    from pydicom.dataset import Dataset

# DICOM allows at most 64 characters for both.
RESEARCH_ONLY = "Research use only, not for diagnosis"
DEVICE = "custom_components"

# Attributes copied from the images: references and geometry, nothing about the patient.
IMAGE_TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)

# Compression level: higher levels halve the file size of maps but take twice as long.
DEFLATE_LEVEL = 1


@dataclass(frozen=True)
class Source:
    """The CT series that objects refer to.

    Attributes:
        case_id: name of the case, for messages.
        images: one header per slice in the order of the volume, with empty patient and study attributes.
        patient_file: a file of the series with these attributes.
    """

    case_id: str
    images: Sequence[Dataset]
    patient_file: Path


def read_source(case_id: str, series: Series | None, shape: Sequence[int], affine: np.ndarray) -> Source:
    """Read the references of DICOM objects from headers alone.

    Args:
        case_id: name of the case.
        series: DICOM series of the scan.
        shape: of its volume (X, Y, Z).
        affine: of its volume, voxel index to RAS mm.

    Returns:
        The series.

    Raises:
        ValueError: names the case when the scan is not a DICOM series, the volume is not on the grid of its images, or
            the images lack required references.
    """
    if series is None:
        raise ValueError(
            f"Case {case_id} is not a DICOM series, and DICOM objects must refer to one. "
            "Give the folder of the scan's DICOM files, or turn off DICOM output."
        )
    files = series.files
    images: list[Dataset] = [
        read_dicom(file, stop_before_pixels=True, specific_tags=list(IMAGE_TAGS)) for file in files
    ]
    try:
        with quiet_pydicom():
            complete_headers(images, lambda number: files[number].read_bytes())
        _check_character_set(images[0])
        slices = image_slices(shape, affine, images)
    except ValueError as error:
        raise ValueError(f"Case {case_id}: {error}") from error
    images = [images[index] for index in np.argsort(slices)]
    _agree(images, affine)
    return Source(case_id, images, files[0])


def _check_character_set(image: Dataset) -> None:
    from pydicom.charset import python_encoding

    given = image.get("SpecificCharacterSet") or []
    unknown = [name for name in ([given] if isinstance(given, str) else given) if name not in python_encoding]
    if unknown:
        raise ValueError(
            f"the headers are in the character set {', '.join(map(plain_text, unknown))}, which DICOM does not have. "
            "Export the series again, or turn off DICOM output."
        )


def _agree(images: Sequence[Dataset], affine: np.ndarray) -> None:
    """Set orientation and spacing of all images to the first one's (last digits may differ), and set a thickness."""
    for image in images:
        image.ImageOrientationPatient = images[0].ImageOrientationPatient
        image.PixelSpacing = images[0].PixelSpacing
        if not image.get("SliceThickness"):
            image.SliceThickness = f"{np.linalg.norm(affine[:3, 2]):.6g}"


def derivation(number: int, content: str) -> dict[str, Any]:
    """Arguments common to all objects: its own series, and the equipment.

    Args:
        number: SeriesNumber.
        content: content of the object in a few words.

    Returns:
        Keyword arguments of highdicom's classes.
    """
    from pydicom.uid import generate_uid

    return {
        "series_instance_uid": generate_uid(prefix=None),
        "series_number": number,
        "series_description": f"AI {content}, research use only",
        "sop_instance_uid": generate_uid(prefix=None),
        "instance_number": 1,
        "manufacturer": DEVICE,
        "manufacturer_model_name": DEVICE,
        "device_serial_number": __version__,
        "software_versions": __version__,
    }


def network_texts(models: Sequence[Model]) -> list[str]:
    """Describe networks in ASCII, because an object has the character set of its source.

    Args:
        models: applied networks.

    Returns:
        One text per network.
    """
    texts = (
        f"network {model.name} {model.version}, weights {model.weights}, sha256 {model.sha256}, "
        f"trained on {model.trained_on}"
        for model in models
    )
    return [ascii_text(text) for text in texts]


def ascii_text(text: str) -> str:
    r"""Convert text to ASCII, which every DICOM character set supports.

    Args:
        text: any.

    Returns:
        The text with ``?`` for other characters, and ``/`` for the backslash, which separates values in DICOM.

    Example:
        >>> ascii_text("M\u00fcller C:\\net")
        'M?ller C:/net'
    """
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")


@contextmanager
def calm() -> Iterator[None]:
    """Suppress highdicom's log of each copied module."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def save(source: Source, dataset: SOPClass, path: Path, deflated: bool = False) -> None:
    """Add the source's patient and study attributes to an object and write it.

    Args:
        source: source of the object.
        dataset: the object; modified in place.
        path: file to write atomically.
        deflated: whether to compress the file (Deflated Explicit VR Little Endian), for maps of floats.

    Raises:
        ValueError: names the case when the source's patient or study attributes cannot be read.
    """
    from custom_components.phantom.dicom import write_dicom_file

    _identify(source, dataset)
    if deflated:
        _write_deflated(dataset, path)
    else:
        write_dicom_file(dataset, path)


def _identify(source: Source, dataset: SOPClass) -> None:
    """Copy patient and study attributes without checks, whose errors would quote them; identifiers are valid ones."""
    from pydicom import config

    with config.disable_value_validation():
        header = read_dicom(source.patient_file, stop_before_pixels=True)
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(header, name, source.images[0].get(name))
        try:
            dataset.copy_patient_and_study_information(header)
        except Exception:
            raise ValueError(
                f"Case {source.case_id}: patient and study attributes of {source.patient_file.name} cannot be read. "
                "Export the series again."
            ) from None
        if "SpecificCharacterSet" in header:
            dataset.SpecificCharacterSet = header.SpecificCharacterSet


def _write_deflated(dataset: SOPClass, path: Path) -> None:
    """Write like pydicom, but with a compression level and without another copy of the pixels."""
    from pydicom.filebase import DicomFileLike
    from pydicom.filewriter import write_dataset, write_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pixels: Any = dataset.pop("FloatPixelData")
    header = BytesIO()
    buffer = DicomFileLike(header)
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    header.write(struct.pack("<HH2s2xI", pixels.tag.group, pixels.tag.element, b"OF", len(pixels.value)))
    deflater = zlib.compressobj(DEFLATE_LEVEL, wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(header.getvalue()) + deflater.compress(pixels.value) + deflater.flush()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(DicomFileLike(file), dataset.file_meta, enforce_standard=True)
        file.write(deflated + b"\0" * (len(deflated) % 2))
