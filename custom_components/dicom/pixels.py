"""Find the pixel data of a DICOM file and check that they are complete, without decoding them."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from custom_components.dicom.headers import ImageFile

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PIXEL_DATA_TAG = (0x7FE0, 0x0010)
# Implicit and explicit VR, little endian.
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
UNDEFINED_LENGTH = 0xFFFFFFFF
# Item that ends encapsulated pixel data; key: is little-endian.
SEQUENCE_DELIMITER = {True: b"\xfe\xff\xdd\xe0", False: b"\xff\xfe\xe0\xdd"}


@dataclass(frozen=True)
class PixelData:
    """Result of checking an image's pixel data.

    Args:
        problem: why they are incomplete; empty when complete.
        num_bytes: their length; None when they are compressed.
        plain_at: byte of the file at which the stored values begin; None unless they are uncompressed 16-bit
            little-endian integers.
    """

    problem: str = ""
    num_bytes: int | None = None
    plain_at: int | None = None


def find_pixels(image: ImageFile) -> PixelData:
    """Check the pixel data of an image.

    Args:
        image: the file and its header.

    Returns:
        The result; deflated files are not checked.
    """
    syntax = image.header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        return PixelData("its transfer syntax is missing")
    if syntax.is_deflated:
        return PixelData()
    order = "<" if syntax.is_little_endian else ">"
    layout = struct.Struct(order + ("HHI" if syntax.is_implicit_VR else "HH4xI"))
    with image.path.open("rb") as file:
        file.seek(image.pixels_at)
        start = file.read(layout.size)
        if len(start) < layout.size or layout.unpack(start)[:2] != PIXEL_DATA_TAG:
            return PixelData("it ends before its pixel data")
        length = layout.unpack(start)[2]
        if length == UNDEFINED_LENGTH:
            closed = SEQUENCE_DELIMITER[syntax.is_little_endian] in file.read()
            return PixelData("" if closed else "its compressed pixel data have no end")
        there = os.fstat(file.fileno()).st_size - file.tell()
        plain = syntax in PLAIN and image.header.get("BitsAllocated") == 16
        problem = "" if there >= length else f"its pixel data have {there:,} of {length:,} bytes"
        return PixelData(problem, length, file.tell() if plain else None)


def expected_bytes(header: Dataset) -> int:
    """Length in bytes of one image's uncompressed pixel data, padded to an even number.

    Args:
        header: header with ``Rows``, ``Columns`` and ``BitsAllocated``.
    """
    bits = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1) * int(header.BitsAllocated)
    return (bits + 15) // 16 * 2
