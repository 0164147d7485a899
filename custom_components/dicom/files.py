"""Recognise and read DICOM files with or without a preamble, as old archives and networks leave them."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

PREAMBLE_BYTES = 128
PREFIX = b"DICM"
# Value representations of an image's first elements.
FIRST_VR = (b"UL", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"PN", b"DT", b"ST")
# Tags of an image's first elements when the VR is implicit.
MOST_BYTES = 256
FILE_META, IDENTIFYING = 2, 8  # groups at the start of a file


def begins_as_dicom(start: bytes) -> bool:
    r"""Whether a file's first 132 bytes are those of a DICOM file, with or without a preamble.

    Example:
        >>> begins_as_dicom(bytes(128) + b"DICM"), begins_as_dicom(b"\x08\x00\x08\x00CS\x16\x00ORIGINAL")
        (True, True)
        >>> begins_as_dicom(b"\x89PNG\r\n\x1a\n" + bytes(124))
        False
    """
    return start[PREAMBLE_BYTES:] == PREFIX or _begins_with_an_element(start)


def is_dicom_file(path: Path) -> bool:
    """Whether a file begins like a DICOM file."""
    with path.open("rb") as file:
        return begins_as_dicom(file.read(PREAMBLE_BYTES + len(PREFIX)))


def read_dicom(source: Path | BinaryIO, **options: Any) -> Any:
    """Pydicom's ``dcmread``, also for files without preamble or transfer syntax: it is detected.

    Args:
        source: path or open file.
        options: passed to ``dcmread``.

    Returns:
        The dataset; its ``preamble`` is None if the file has none.

    Raises:
        InvalidDicomError: when it is not a DICOM file.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_dicom(file, **options)
    start = source.read(PREAMBLE_BYTES + len(PREFIX))
    source.seek(0)
    header = dcmread(source, force=_begins_with_an_element(start), **options)
    if "TransferSyntaxUID" not in header.file_meta:
        is_implicit = header.original_encoding[0] if hasattr(header, "original_encoding") else header.is_implicit_VR
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian
    return header


def _begins_with_an_element(start: bytes) -> bool:
    if len(start) < 12 or start[PREAMBLE_BYTES:] == PREFIX:
        return False
    group, element, length = struct.unpack("<HHI", start[:8])
    return group in (FILE_META, IDENTIFYING) and element < 0x100 and (start[4:6] in FIRST_VR or length <= MOST_BYTES)
