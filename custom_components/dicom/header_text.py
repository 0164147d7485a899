"""Text of a DICOM header that is safe to show: one short line that does not name the patient."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Shorter family names and IDs occur by chance in descriptions.
LEAST_NAME_LENGTH = 3
# DICOM allows 64 characters in a description.
MAX_LETTERS = 128
WITHHELD = "description withheld, it names the patient"
# Limit of the values shown here (64 characters in a description, 16 in a code).
MAX_VALUE = 64
DAMAGED = "damaged text, withheld"


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Suppress pydicom's warnings and logs while it decodes values, because they quote the patient's name or ID."""
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain_text(value: object) -> str:
    r"""A header value as one line of limited length; empty when missing.

    Control characters become spaces, so that a header cannot forge log lines.

    Example:
        >>> plain_text("Thorax\x1b[2J\nERROR all lost "), len(plain_text("x" * 5000))
        ('Thorax [2J ERROR all lost', 128)
    """
    text = "" if value is None else str(value)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 1] + "…"


def error_text(error: Exception) -> str:
    """What a library's exception says, in one line; its type if it says nothing.

    Example:
        >>> error_text(RuntimeError("Exception thrown in X: /src/x.cxx:99: sitk::ERROR: Unable to read."))
        'Unable to read.'
    """
    return plain_text(str(error).rpartition("::ERROR: ")[2]) or type(error).__name__


def value_text(value: object) -> str:
    r"""A header value as one line; withheld if it is longer than DICOM allows or has control characters inside.

    With a damaged length, a value includes the attributes that follow it, such as the patient's name.

    Example:
        >>> value_text("Thorax \0"), value_text("Thorax \x10\0\x10\0PN\x08\0Doe^Jane"), value_text(None)
        ('Thorax', 'damaged text, withheld', '')
    """
    text = "" if value is None else str(value).strip("\0 \t\r\n")
    is_damaged = len(text) > MAX_VALUE or any(unicodedata.category(letter) == "Cc" for letter in text)
    return DAMAGED if is_damaged else plain_text(text)


def drop_undecodable(header: Dataset, tags: Iterable[str]) -> dict[str, str]:
    """Remove, in memory, attributes whose value cannot be decoded, such as a SeriesNumber with letters.

    Args:
        header: header of one image; modified in place.
        tags: keywords of the attributes to decode.

    Returns:
        The reason by removed attribute.
    """
    reasons = {}
    with quiet_pydicom():
        for tag in tags:
            try:
                header.get(tag)
            except Exception as error:  # pydicom raises many types of errors
                reasons[tag] = error_text(error)
                del header[tag]
    return reasons


def safe_description(header: Dataset) -> str:
    """SeriesDescription of an image; withheld if it is damaged or contains the patient's ID or family name."""
    text = value_text(header.get("SeriesDescription"))
    return WITHHELD if names_patient(text, header) else text or "without description"


def names_patient(text: str, header: Dataset) -> bool:
    """Whether a text contains the patient's ID or a part of the family name."""
    with quiet_pydicom():
        name, patient_id = (str(header.get(tag) or "") for tag in ("PatientName", "PatientID"))
    known = [*re.split(r"[\W_]+", re.split(r"[\^=]", name)[0]), patient_id.strip()]
    return any(part.lower() in text.lower() for part in known if len(part) >= LEAST_NAME_LENGTH)
