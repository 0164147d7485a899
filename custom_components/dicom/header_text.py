"""Texts of a DICOM header as they may be told: one short line, without the patient."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Family names and IDs that are shorter occur in any description.
LEAST_NAME_LENGTH = 3
# DICOM allows a description 64 letters; what is longer is no description.
MAX_LETTERS = 128
WITHHELD = "description withheld, it names the patient"


@contextmanager
def untold() -> Iterator[None]:
    """Let pydicom decode values without warnings and logs: they would quote the value, the patient's name or ID."""
    from pydicom import config

    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plain_text(value: object) -> str:
    r"""A value of a header as one line of bounded length; empty when it is not there.

    Control characters, with which a header could forge lines of a log, become spaces.

    Example:
        >>> plain_text("Thorax\x1b[2J\nERROR all lost "), len(plain_text("x" * 5000))
        ('Thorax [2J ERROR all lost', 128)
    """
    text = "" if value is None else str(value)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MAX_LETTERS else line[: MAX_LETTERS - 1] + "…"


def drop_undecodable(header: Dataset, tags: Iterable[str]) -> None:
    """Remove, in memory, attributes whose value cannot be decoded, such as a SeriesNumber of letters.

    Args:
        header: of one image; changed.
        tags: keywords of attributes that voxels and geometry do not need.
    """
    with untold():
        for tag in tags:
            try:
                header.get(tag)
            except Exception:  # pydicom lets through whatever its parsing stumbled on
                del header[tag]


def told_description(header: Dataset) -> str:
    """SeriesDescription of an image; withheld where it holds the patient's ID or family name."""
    text = plain_text(header.get("SeriesDescription"))
    return WITHHELD if names_patient(text, header) else text or "without description"


def names_patient(text: str, header: Dataset) -> bool:
    """Whether a text holds the patient's ID or a part of the family name."""
    with untold():
        name, patient_id = (str(header.get(tag) or "") for tag in ("PatientName", "PatientID"))
    known = [*re.split(r"[\W_]+", re.split(r"[\^=]", name)[0]), patient_id.strip()]
    return any(part.lower() in text.lower() for part in known if len(part) >= LEAST_NAME_LENGTH)
