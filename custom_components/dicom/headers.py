"""Read the header of a DICOM image once, for the selection of a series, its checks and its voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom_components.dicom.files import read_dicom
from custom_components.dicom.header_text import drop_undecodable, quiet_pydicom
from custom_components.dicom.identifiers import OF_SERIES
from custom_components.dicom.numbers import COUNTS

# Attributes needed for voxels and geometry.
REQUIRED = tuple(COUNTS)
IDENTITY = ("PatientName", "PatientID")
SHAPES = ("SOPClassUID", "NumberOfFrames", "SamplesPerPixel")
HEADER_TAGS = (
    *REQUIRED,
    *IDENTITY,
    *SHAPES,
    *OF_SERIES,
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "SliceThickness",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ConvolutionKernel",
    "ContrastBolusAgent",
)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A DICOM file and its header.

    Args:
        path: the file.
        header: its attributes of ``HEADER_TAGS`` that can be decoded; those of ``IDENTITY`` as they are.
        pixels_at: byte at which the header ends and the pixel data begin; of no use in a deflated file.
        kind: SOP class of the file, which tells an image from a directory.
        undecodable: reason by attribute for those that cannot be decoded, such as a SeriesNumber with letters.
    """

    path: Path
    header: Any = field(repr=False)  # contains the patient's name
    pixels_at: int
    kind: str
    undecodable: Mapping[str, str] = field(default_factory=dict)


def read_image_file(path: Path) -> ImageFile:
    """Read the header of a file.

    Raises:
        Exception: of many types, by pydicom, when it cannot be read.
    """
    with path.open("rb") as file, quiet_pydicom():
        header = read_dicom(file, stop_before_pixels=True, specific_tags=list(HEADER_TAGS))
        pixels_at = file.tell()
        kind = str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    return ImageFile(path, header, pixels_at, kind, drop_undecodable(header, set(HEADER_TAGS) - set(IDENTITY)))
