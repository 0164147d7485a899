"""What DICOM wants in the headers of a series before an object may be derived from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
REQUIRED = ("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
UID = re.compile(r"[0-9.]{1,64}")


def complete_headers(images: Sequence[Dataset]) -> None:
    """Add, as empty, the patient's and study's attributes that images lack, so that a SEG can be derived from them.

    Args:
        images: headers of one series, changed in memory only.

    Raises:
        ValueError: when something is missing that cannot be empty.
    """
    for number, image in enumerate(images, start=1):
        missing = [name for name in REQUIRED if not UID.fullmatch(str(image.get(name) or ""))]
        if missing:
            name = number if "SOPInstanceUID" in missing else image.SOPInstanceUID
            raise ValueError(
                f"Image {name} lacks {', '.join(missing)} (digits and dots, 64 at most), to which a DICOM SEG must "
                "refer. Export the series again, with whole headers."
            )
        for name in MAY_BE_EMPTY:
            if name not in image:
                setattr(image, name, "")
