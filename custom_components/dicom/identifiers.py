"""Identifiers of a series as DICOM objects need them: kept where they are valid, else made from the source's own.

De-identified series often carry UUIDs where DICOM wants UIDs, empty identifiers, or one SOPInstanceUID for all images.
None of that changes a voxel. The rule, for every attribute: a valid identifier (digits and dots, 64 at most) is kept;
any other text becomes ``2.25.`` and the first 128 bits of the SHA-256 of attribute name and text, so that objects made
at different times, or from different series of one study, still agree; an identifier that is missing is made likewise
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

# DICOM wants these in every object, if only empty; de-identified files often lack them.
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
# Those that all images of a series share.
OF_SERIES = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
MOST_CHARACTERS = 64
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def is_uid(text: str) -> bool:
    """Whether a text is made of numbers parted by dots, 64 characters at most, as a UID is; it can then name files.

    Example:
        >>> is_uid("1.2.840.10008"), is_uid("../../etc"), is_uid("0b5f3a9e-64c1-4f4e"), is_uid("")
        (True, False, False, False)
    """
    return len(text) <= MOST_CHARACTERS and bool(UID.fullmatch(text))


def substitute_uid(attribute: str, *parts: str) -> str:
    """A valid UID made from a text: ``2.25.`` and a number of 128 bits, the same for the same text at any time.

    Args:
        attribute: its keyword, so that a text that stands for study and series does not make one UID of both.
        parts: what tells it from others.

    Example:
        >>> substitute_uid("StudyInstanceUID", "") == substitute_uid("StudyInstanceUID", "")
        True
        >>> is_uid(substitute_uid("StudyInstanceUID", "0b5f3a9e-64c1-4f4e-9d0a-3f8d1f1c2b6e"))
        True
    """
    digest = hashlib.sha256("\0".join([attribute, *parts]).encode("utf-8", "surrogateescape")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def uid_or_substitute(attribute: str, text: str) -> str:
    """An identifier as it is when it is valid, empty when it is empty, else its substitute."""
    return text if is_uid(text) or not text else substitute_uid(attribute, text)


def raw_uid(header: Dataset, attribute: str) -> str:
    """Text of an identifier; of several values, which DICOM does not allow, all."""
    value = header.get(attribute)
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else "\\".join(map(str, value))


def identifier_problems(headers: Sequence[Dataset]) -> list[str]:
    """What is wrong with the identifiers of a series, in phrases; nothing of their text.

    Args:
        headers: of its images, one at least.

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
    """Give images valid identifiers, and empty attributes where they lack those of patient and study.

    Args:
        images: headers of one series, changed in memory only.
        content: what is in image ``i``, such as the bytes of its file; asked for only where its own identifier is
            missing or not its alone.

    Returns:
        What was wrong with the identifiers, in phrases; empty when they are as they were.
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
    """A valid SOPInstanceUID for each image of a series, no two the same; arguments as in ``complete_headers``."""
    texts = [raw_uid(header, "SOPInstanceUID") for header in headers]
    counts = Counter(texts)
    return [
        uid_or_substitute("SOPInstanceUID", text)
        if text and counts[text] == 1
        else substitute_uid("SOPInstanceUID", text, hashlib.sha256(content(number)).hexdigest())
        for number, text in enumerate(texts)
    ]


def common_uid(headers: Sequence[Dataset], attribute: str, content: Callable[[int], bytes]) -> str:
    """A valid identifier that all images of a series share; where none has one, made from those of the images."""
    return series_uid(headers, attribute) or substitute_uid(attribute, *sorted(image_uids(headers, content)))


def series_uid(headers: Sequence[Dataset], attribute: str) -> str:
    """The valid identifier of a series: the one that most images have, or its substitute; empty when none has one."""
    texts = Counter(text for header in headers if (text := raw_uid(header, attribute)))
    return uid_or_substitute(attribute, texts.most_common(1)[0][0]) if texts else ""
