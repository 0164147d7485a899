"""The DICOM series of a collection of The Cancer Imaging Archive, by patient, whichever folders they were saved in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from custom_components.dicom.header_text import untold
from custom_components.dicom.series import check_dicom_series
from custom_components.dicom.volume import series_volume
from custom_components.images.ct_reader import warn_once
from monai.data import MetaTensor

TAGS = ("PatientID", "Modality", "SeriesInstanceUID", "FrameOfReferenceUID")


@dataclass
class CollectionSeries:
    """The files of one DICOM series.

    Args:
        modality: such as CT, RTSTRUCT or SEG.
        frame: FrameOfReferenceUID; empty where the header has none.
        files: in the order of their paths.
    """

    modality: str
    frame: str
    files: list[Path] = field(default_factory=list)


def series_by_patient(root: Path, patient: re.Pattern[str]) -> dict[str, list[CollectionSeries]]:
    """CollectionSeries of each patient of a collection, by the headers alone; files that cannot be read are left aside.

    Args:
        root: the downloaded collection, in any folders.
        patient: what a PatientID, a pseudonym of the collection, has to be; others are left aside.

    Returns:
        By PatientID, in the order of the paths.
    """
    found: dict[str, dict[str, CollectionSeries]] = {}
    for path in sorted(root.rglob("*.dcm")):
        name, modality, uid, frame = _header(path)
        if patient.fullmatch(name):
            found.setdefault(name, {}).setdefault(uid, CollectionSeries(modality, frame)).files.append(path)
    return {name: list(series.values()) for name, series in found.items()}


def read_ct(series: Sequence[CollectionSeries], case: str) -> MetaTensor:
    """The CT of a patient in HU.

    Args:
        series: of the patient; exactly one has to be CT.
        case: for messages.

    Returns:
        (1, X, Y, Z), float32.

    Raises:
        ValueError: when there is none or more than one, or it is no volume.
    """
    scans = [one for one in series if one.modality == "CT"]
    if len(scans) != 1:
        raise ValueError(f"Case {case}: {len(scans)} CT series. Expected one: download it, or remove the others.")
    checked = check_dicom_series(scans[0].files, case)
    volume, notes = series_volume(checked, case)
    warn_once(case, notes)
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(volume))[None], affine=torch.from_numpy(checked.affine))


def _header(path: Path) -> tuple[str, ...]:
    """Values of ``TAGS``; empty ones where the file cannot be read."""
    from pydicom import dcmread

    try:
        with untold():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
            return tuple(str(header.get(tag) or "") for tag in TAGS)
    except Exception:  # pydicom lets through whatever its parsing stumbled on
        return ("",) * len(TAGS)
