"""Valid identifiers for DICOM outputs: the source's own where valid, otherwise derived from them.

De-identified series often have UUIDs instead of UIDs, empty identifiers, or one SOPInstanceUID for all images. The
voxels are still valid. The rule for every attribute: a valid identifier (digits and dots, at most 64 characters) is
kept. Any other text becomes ``2.25.`` and the first 128 bits of the SHA-256 of attribute name and text, so that outputs
written at different times, or from different series of a study, agree. A missing identifier is derived in the same way
from the content of the images.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# DICOM requires these in every object, possibly empty; de-identified files often lack them.
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# Identifiers that all images of a series share.
OF_SERIES = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
MOST_CHARACTERS = 64
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def is_uid(text: str) -> bool:
    """Whether a text is a valid UID (numbers separated by dots, at most 64 characters), and thus a safe file name.

    Example:
        >>> is_uid("1.2.840.10008"), is_uid("../../etc"), is_uid("0b5f3a9e-64c1-4f4e"), is_uid("")
        (True, False, False, False)
    """
    return len(text) <= MOST_CHARACTERS and bool(UID.fullmatch(text))


def substitute_uid(attribute: str, *parts: str) -> str:
    """A valid UID derived from a text: ``2.25.`` and a 128-bit number, always the same for the same text.

    Args:
        attribute: keyword of the attribute, so that the same text gives different UIDs for study and series.
        parts: text to derive the UID from.

    Example:
        >>> substitute_uid("StudyInstanceUID", "") == substitute_uid("StudyInstanceUID", "")
        True
        >>> is_uid(substitute_uid("StudyInstanceUID", "0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e"))
        True
    """
    digest = hashlib.sha256("\0".join([attribute, *parts]).encode("utf-8", "surrogateescape")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def uid_or_substitute(attribute: str, text: str) -> str:
    """A valid or empty identifier unchanged; otherwise its substitute."""
    return text if is_uid(text) or not text else substitute_uid(attribute, text)


def raw_uid(header: Dataset, attribute: str) -> str:
    """Text of an identifier; all values if there are several, which DICOM does not allow."""
    value = header.get(attribute)
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else "\\".join(map(str, value))


def identifier_problems(headers: Sequence[Dataset]) -> list[str]:
    """Phrases that say what is wrong with the identifiers of a series, without quoting them.

    Args:
        headers: headers of its images, at least one.

    Example:
        >>> from pydicom.dataset import Dataset
        >>> image = Dataset()
        >>> image.SOPInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID = "1.2", "", "1.4"
        >>> identifier_problems([image])
        ['SeriesInstanceUID is missing', 'StudyInstanceUID is missing']
    """
    problems = []
    for attribute in OF_SERIES:
        texts = Counter(raw_uid(header, attribute) for header in headers)
        if len(texts) > 1:
            problems.append(f"{attribute} differs from image to image")
        elif "" in texts:
            problems.append(f"{attribute} is missing")
        elif not is_uid(next(iter(texts))):
            problems.append(f"{attribute} is not a DICOM UID")
    texts = Counter(raw_uid(header, "SOPInstanceUID") for header in headers)
    wrong = sum(count for text, count in texts.items() if not is_uid(text))
    shared = sum(count for text, count in texts.items() if is_uid(text) and count > 1)
    if wrong:
        problems.append(f"SOPInstanceUID is missing or not a DICOM UID in {wrong} of {len(headers)} images")
    if shared:
        problems.append(f"{shared} of {len(headers)} images share a SOPInstanceUID with another image")
    return problems


def complete_headers(images: Sequence[Dataset], content: Callable[[int], bytes]) -> list[str]:
    """Set valid identifiers, and add missing patient and study attributes as empty ones.

    Args:
        images: headers of one series; modified in memory only.
        content: returns the content of image ``i``, such as its file's bytes; called only when the image's identifier
            is missing or not unique.

    Returns:
        Phrases that say what was wrong; empty when nothing was changed.
    """
    problems = identifier_problems(images)
    shared = {attribute: common_uid(images, attribute, content) for attribute in OF_SERIES}
    for image, uid in zip(images, image_uids(images, content), strict=True):
        image.SOPInstanceUID = uid
        for attribute, common in shared.items():
            setattr(image, attribute, common)
        if not image.get("SOPClassUID"):
            image.SOPClassUID = CT_IMAGE
        for name in MAY_BE_EMPTY:
            if name not in image:
                setattr(image, name, "")
    return problems


def image_uids(headers: Sequence[Dataset], content: Callable[[int], bytes]) -> list[str]:
    """A valid and unique SOPInstanceUID for each image of a series; arguments as in ``complete_headers``."""
    texts = [raw_uid(header, "SOPInstanceUID") for header in headers]
    counts = Counter(texts)
    return [
        uid_or_substitute("SOPInstanceUID", text)
        if text and counts[text] == 1
        else substitute_uid("SOPInstanceUID", text, hashlib.sha256(content(number)).hexdigest())
        for number, text in enumerate(texts)
    ]


def common_uid(headers: Sequence[Dataset], attribute: str, content: Callable[[int], bytes]) -> str:
    """A valid identifier shared by all images of a series; derived from the image identifiers if none has one."""
    return series_uid(headers, attribute) or substitute_uid(attribute, *sorted(image_uids(headers, content)))


def series_uid(headers: Sequence[Dataset], attribute: str) -> str:
    """The identifier that most images have, or its substitute if not valid; empty when no image has one."""
    texts = Counter(text for header in headers if (text := raw_uid(header, attribute)))
    return uid_or_substitute(attribute, texts.most_common(1)[0][0]) if texts else ""
