"""The CT series that DICOM objects are derived from; who the patient is comes in last, past every check and log."""

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
from custom_components.dicom.header_text import plain_text, untold
from custom_components.dicom.identifiers import complete_headers
from custom_components.files.atomic import atomic_path
from custom_components.reports.dicom.frames import image_slices
from custom_components.reports.scan.findings import Model

if TYPE_CHECKING:
    from highdicom.base import SOPClass
    from pydicom.dataset import Dataset

# Both go where DICOM has room for 64 characters.
RESEARCH_ONLY = "Research use only, not for diagnosis"
DEVICE = "custom_components"

# What an object takes from the images: references and geometry, nothing of the patient.
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

# Maps are long runs of equal bytes: higher levels take twice as long for files half the size.
DEFLATE_LEVEL = 1


@dataclass(frozen=True)
class Source:
    """The CT series that objects refer to.

    Attributes:
        case_id: name of the case, for messages.
        images: one header a slice, in the order of the volume; patient and study are empty.
        patient_file: a file of the series, which has them.
    """

    case_id: str
    images: Sequence[Dataset]
    patient_file: Path


def read_source(case_id: str, series: Series | None, shape: Sequence[int], affine: np.ndarray) -> Source:
    """Read what objects refer to, from headers alone.

    Args:
        case_id: name of the case.
        series: that the scan came as.
        shape: of its volume (X, Y, Z).
        affine: of its volume, voxel index to RAS mm.

    Returns:
        The series.

    Raises:
        ValueError: naming the case, when the scan is no DICOM series, when the volume is not on the grid of its
            images, or when the images lack what must be referred to.
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
        with untold():
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
    """Give all images the first one's orientation and spacing, which may differ in a last digit, and a thickness."""
    for image in images:
        image.ImageOrientationPatient = images[0].ImageOrientationPatient
        image.PixelSpacing = images[0].PixelSpacing
        if not image.get("SliceThickness"):
            image.SliceThickness = f"{np.linalg.norm(affine[:3, 2]):.6g}"


def derivation(number: int, content: str) -> dict[str, Any]:
    """Arguments that every object takes: a series of its own, and what wrote it.

    Args:
        number: SeriesNumber.
        content: what the object holds, in a few words.

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
    """Networks in words, with nothing but ASCII: the character set of an object is that of its source.

    Args:
        models: networks that were applied.

    Returns:
        One text each.
    """
    texts = (
        f"network {model.name} {model.version}, weights {model.weights}, sha256 {model.sha256}, "
        f"trained on {model.trained_on}"
        for model in models
    )
    return [ascii_text(text) for text in texts]


def ascii_text(text: str) -> str:
    r"""Text that every character set of DICOM can hold.

    Args:
        text: any.

    Returns:
        It, with ``?`` for what is not ASCII; a backslash, which parts values in DICOM, is a slash.

    Example:
        >>> ascii_text("M\u00fcller C:\\net")
        'M?ller C:/net'
    """
    return text.encode("ascii", "replace").decode("ascii").replace("\\", "/")


@contextmanager
def calm() -> Iterator[None]:
    """Keep highdicom from logging each module that it copies."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def save(source: Source, dataset: SOPClass, path: Path, deflated: bool = False) -> None:
    """Give an object the patient and the study of its source and write it.

    Args:
        source: what the object was made from.
        dataset: the object; changed.
        path: file to write, atomically.
        deflated: compress the file as a whole (Deflated Explicit VR Little Endian); for a map of floats.

    Raises:
        ValueError: naming the case, when patient or study of the source cannot be read.
    """
    from custom_components.phantom.dicom import write_dicom_file

    _identify(source, dataset)
    if deflated:
        _write_deflated(dataset, path)
    else:
        write_dicom_file(dataset, path)


def _identify(source: Source, dataset: SOPClass) -> None:
    """Copy patient and study, neither checked nor told: a check that fails would quote them; identifiers as made."""
    from pydicom import config

    with config.disable_value_validation():
        header = read_dicom(source.patient_file, stop_before_pixels=True)
        for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(header, name, source.images[0].get(name))
        try:
            dataset.copy_patient_and_study_information(header)
        except Exception:
            raise ValueError(
                f"Case {source.case_id}: patient and study of {source.patient_file.name} cannot be read. "
                "Export the series again."
            ) from None
        if "SpecificCharacterSet" in header:
            dataset.SpecificCharacterSet = header.SpecificCharacterSet


def _write_deflated(dataset: SOPClass, path: Path) -> None:
    """As pydicom does, which has no say on the level; the pixels, which come last, without another copy."""
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
