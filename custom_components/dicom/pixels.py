"""Check that the pixel data of a DICOM file are complete, without decoding them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PIXEL_DATA_TAG = (0x7FE0, 0x0010)
UNDEFINED_LENGTH = 0xFFFFFFFF
# Item that ends encapsulated pixel data; key: is little-endian.
SEQUENCE_DELIMITER = {True: b"\xfe\xff\xdd\xe0", False: b"\xff\xfe\xe0\xdd"}


@dataclass(frozen=True)
class PixelData:
    """Result of checking an image's pixel data.

    Args:
        problem: why they are incomplete; empty when complete.
        num_bytes: their length; None when they are compressed.
    """

    problem: str = ""
    num_bytes: int | None = None


def find_pixels(file: BinaryIO, header: Dataset) -> PixelData:
    """Check the pixel data that start at the file's current position.

    Args:
        file: an open DICOM file whose header was just read.
        header: the header.

    Returns:
        The result; deflated files are not checked.
    """
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return PixelData("its transfer syntax is missing")
    if syntax.is_deflated:
        return PixelData()
    order = "<" if syntax.is_little_endian else ">"
    layout = struct.Struct(order + ("HHI" if syntax.is_implicit_VR else "HH4xI"))
    start = file.read(layout.size)
    if len(start) < layout.size or layout.unpack(start)[:2] != PIXEL_DATA_TAG:
        return PixelData("it ends before its pixel data")
    length, rest = layout.unpack(start)[2], file.read()
    if length == UNDEFINED_LENGTH:
        closed = SEQUENCE_DELIMITER[syntax.is_little_endian] in rest
        return PixelData("" if closed else "its compressed pixel data have no end")
    problem = "" if len(rest) >= length else f"its pixel data have {len(rest):,} of {length:,} bytes"
    return PixelData(problem, length)


def expected_bytes(header: Dataset) -> int:
    """Length in bytes of one image's uncompressed pixel data, padded to an even number.

    Args:
        header: header with ``Rows``, ``Columns`` and ``BitsAllocated``.
    """
    bits = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1) * int(header.BitsAllocated)
    return (bits + 15) // 16 * 2
