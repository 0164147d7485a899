"""Find the DICOM series of each patient in a collection of The Cancer Imaging Archive, in any folder layout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from custom_components.dicom.header_text import quiet_pydicom
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
        frame: FrameOfReferenceUID; empty if missing.
        files: files sorted by path.
    """

    modality: str
    frame: str
    files: list[Path] = field(default_factory=list)


def series_by_patient(root: Path, patient: re.Pattern[str]) -> dict[str, list[CollectionSeries]]:
    """Series of each patient of a collection, from headers alone; unreadable files are ignored.

    Args:
        root: the downloaded collection, at any depth.
        patient: pattern of the collection's PatientIDs (pseudonyms); others are ignored.

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
        series: series of the patient; exactly one must be CT.
        case: for messages.

    Returns:
        (1, X, Y, Z), float32.

    Raises:
        ValueError: when there is no CT or more than one, or it does not form a volume.
    """
    scans = [one for one in series if one.modality == "CT"]
    if len(scans) != 1:
        raise ValueError(f"Case {case}: {len(scans)} CT series. Expected one: download it, or remove the others.")
    checked = check_dicom_series(scans[0].files, case)
    volume, notes = series_volume(checked, case)
    warn_once(case, notes)
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(volume))[None], affine=torch.from_numpy(checked.affine))


def _header(path: Path) -> tuple[str, ...]:
    """Values of ``TAGS``; empty if the file cannot be read."""
    from pydicom import dcmread

    try:
        with quiet_pydicom():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
            return tuple(str(header.get(tag) or "") for tag in TAGS)
    except Exception:  # pydicom raises many types of errors
        return ("",) * len(TAGS)
