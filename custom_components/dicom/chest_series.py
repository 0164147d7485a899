"""Select the chest CT series of a study, and say why."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from custom_components.dicom.files import read_dicom
from custom_components.dicom.identifiers import raw_uid, series_uid
from custom_components.dicom.series import SECONDARY_CAPTURE, DicomSeries, check_dicom_series, modality_of
from custom_components.dicom.study import LOCALIZER, StudySeries, patient_of, study_series

# Shorter series, such as bolus tracking or biopsy slices, do not show a chest.
LEAST_EXTENT_MM = 120.0
# Slices at most this far apart count as thin.
THIN_MM = 3.0
# Cosine of the angle between slice normal and body axis from which slices are axial (18 degrees; gantry tilt is less).
AXIAL_COSINE = 0.95

# Contents of ContrastBolusAgent, in lower case, when none was given.
NO_CONTRAST = ("", "no", "none", "n", "without")
RADIATION_DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
PROJECTIONS = frozenset({"MIP", "MINIP", "MAXIP", "MIN_IP", "MAX_IP", "CSA MIP", "PROJECTION IMAGE", "VOLREN", "VRT"})

_PROJECTION = re.compile(r"\b(mip|minip|maxip|vrt|volume rend\w*)\b", re.IGNORECASE)
_LOCALIZER = re.compile(r"\b(locali[sz]er|scout|topogram|surview|scanogram)\b", re.IGNORECASE)
_CHEST = re.compile(r"chest|thora|lung|pulmo|torax|hrct", re.IGNORECASE)
_ELSEWHERE = re.compile(r"\b(head|brain|skull|sinus|neck|abdomen|pelvis|spine|knee|hip|foot|hand)\b", re.IGNORECASE)
_SHARPEST = re.compile(r"bone|edge|ear|head|brain", re.IGNORECASE)


@dataclass(frozen=True)
class Series:
    """The selected DICOM series, and why it was selected.

    Args:
        uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        description: SeriesDescription, number of slices and spacing; nothing that identifies the patient.
        reason: why this series was selected.
        files: one file per slice, in the order of the volume's third axis.
        left_out: description of each other series of the study, and why it was not selected.
        kernel: name of the reconstruction kernel; empty if unknown.
        has_contrast: whether the header names a contrast agent.
    """

    uid: str
    study_uid: str
    description: str
    reason: str
    files: tuple[Path, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    has_contrast: bool = False


@dataclass(frozen=True)
class ChestSeries:
    """The selected series, checked and ready to read.

    Args:
        series: what the reports show.
        volume: the same files, checked to form a volume.
        patient_id: PatientID, used only on request; empty when missing.
        sha256: identifies the scan, even if its DICOM identifiers are not unique.
    """

    series: Series
    volume: DicomSeries
    patient_id: str
    sha256: str


def find_chest_series(folder: str | Path) -> ChestSeries:
    """Find the axial chest CT of a study folder.

    These series are skipped: localizers, secondary captures, dose reports and anything else that is not CT, projections
    (MIP), reformats in another orientation, multi-frame and colour images, and series shorter than 120 mm. Among
    several axial series the preference is, in this order: names the chest (and no other part), slices at most 3 mm
    apart, original rather than derived images, no bone or edge kernel, more slices, lower series number. If the
    preferred series does not form a volume, because slices are missing or duplicated, the next one is tried.

    Only headers are read. Messages and the result do not name the patient, and refer to files by SOPInstanceUID.

    Args:
        folder: one study of one patient; files may have any depth and name.

    Returns:
        The series.

    Raises:
        ValueError: when there is no DICOM file, more than one study or patient, or no suitable series (lists the
            series).
    """
    found, unreadable = study_series(folder)
    if not found:
        raise ValueError(
            f"No DICOM images in the folder ({unreadable} files without readable header). Expected the folder of one "
            "study, its series at any depth: check the path, or export the study again."
        )
    left_out = {one: why for one in found if (why := why_not(one))}
    candidates = sorted((one for one in found if one not in left_out), key=preference)
    _check_one_study(candidates)
    for one in candidates:
        try:
            volume = check_dicom_series(one.images, one.uid)
        except ValueError as error:
            left_out[one] = str(error).removeprefix(f"Case {one.uid}: ")
            continue
        others = {other: _why_other(one, other) for other in candidates if other is not one and other not in left_out}
        told = _reasons_by_series({**left_out, **others}, found, unreadable)
        patient_id = str(one.headers[0].get("PatientID") or "")
        return ChestSeries(_taken(one, volume, len(candidates), told), volume, patient_id, _digest(one, volume))
    listing = "\n".join(f"  - {one}: {left_out[one]}" for one in found)
    raise ValueError(
        f"Study {found[0].study_uid} has no axial chest CT among its {len(found)} series:\n{listing}\n"
        "Export the axial series of the chest as classic CT, one file per slice, or give a NIfTI file."
    )


def why_not(series: StudySeries) -> str:
    """Why a series cannot be an axial chest CT; empty when it can."""
    kind, described = series.text("SOPClassUID"), series.text("SeriesDescription")
    modality, frames = modality_of(series.headers[0]), series.headers[0].get("NumberOfFrames")
    normal = series.normal
    reasons = {
        "a dose report": kind == RADIATION_DOSE_REPORT,
        "a secondary capture (a screenshot, without HU)": kind.startswith(SECONDARY_CAPTURE),
        f"not CT (modality {modality or 'unknown'})": modality != "CT",
        "a localizer (scout view)": LOCALIZER in series.image_type or bool(_LOCALIZER.search(described)),
        "a projection (such as MIP)": bool(series.image_type & PROJECTIONS or _PROJECTION.search(described)),
        "colour pictures": int(series.headers[0].get("SamplesPerPixel") or 1) > 1,
        "multi-frame (enhanced) CT; only one file per slice is supported": int(frames or 1) > 1,
        "images without one common orientation": normal is None,
        "images without position": normal is not None and not len(series.heights_mm),
        "not axial (a coronal, sagittal or oblique reformat)": normal is not None and abs(normal[2]) < AXIAL_COSINE,
        f"too short, {series.extent_mm:.0f} mm, a chest needs {LEAST_EXTENT_MM:.0f} mm or more": (
            series.extent_mm < LEAST_EXTENT_MM
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def preference(series: StudySeries) -> tuple[float, ...]:
    """Sort key of axial CT series, best first; see ``find_chest_series`` for the rules."""
    return (
        _part_rank(series),
        series.spacing_mm > THIN_MM,
        "DERIVED" in series.image_type,
        bool(_SHARPEST.search(series.text("ConvolutionKernel"))),
        -len(series.heights_mm),
        math.inf if series.number is None else series.number,
    )


# Why a series was not selected, for each entry of the key.
_LOST_BY = (
    "another axial series names the chest",
    "slices of {spacing:.3g} mm, another series has thinner ones",
    "derived images, another series has original images",
    "bone or edge kernel, another series has a smoother kernel",
    "fewer slices",
    "equally suitable, with a higher series number",
)


def _part_rank(series: StudySeries) -> int:
    named = " ".join(series.text(tag) for tag in ("SeriesDescription", "BodyPartExamined", "ProtocolName"))
    if _CHEST.search(named):
        return 0
    return 2 if _ELSEWHERE.search(named) else 1


def _why_other(taken: StudySeries, other: StudySeries) -> str:
    pairs = zip(preference(taken), preference(other), _LOST_BY, strict=True)
    lost = next((text for first, second, text in pairs if first != second), _LOST_BY[-1])
    return lost.format(spacing=other.spacing_mm)


def _taken(one: StudySeries, volume: DicomSeries, candidates: int, left_out: dict[str, str]) -> Series:
    spacing = " x ".join(f"{step:.3g}" for step in volume.spacing_mm)
    names_chest = ", names the chest" if _part_rank(one) == 0 else ""
    among = "the only axial CT" if candidates == 1 else f"the best of {candidates} axial CT series"
    return Series(
        uid=one.uid,
        study_uid=one.study_uid,
        description=f"{one.description}, {volume.num_slices} slices, {spacing} mm",
        reason=f"{among}{names_chest}: {volume.num_slices} slices {one.spacing_mm:.3g} mm apart, "
        f"{one.extent_mm:.0f} mm in all",
        files=volume.files,
        left_out=left_out,
        kernel=one.text("ConvolutionKernel"),
        has_contrast=one.text("ContrastBolusAgent").lower() not in NO_CONTRAST,
    )


def _reasons_by_series(
    reasons: dict[StudySeries, str], found: Sequence[StudySeries], unreadable: int
) -> dict[str, str]:
    """Reason by description in the order of the series; repeated descriptions are numbered."""
    told: dict[str, str] = {}
    for one in (one for one in found if one in reasons):
        name, count = str(one), 2
        while name in told:
            name, count = f"{one} [{count}]", count + 1
        told[name] = reasons[one]
    if unreadable:
        told[f"{unreadable} files"] = "no readable DICOM header"
    return told


def _check_one_study(series: Sequence[StudySeries]) -> None:
    """Check that the candidate series belong to one study of one patient."""
    study_of = {one: series_uid(one.headers, "StudyInstanceUID") for one in series}
    studies = sorted(set(study_of.values()) - {""})
    patients = {patient_of(one.headers[0]) for one in series} - {""}
    if len(studies) < 2 and len(patients) < 2:
        return
    counts = {uid: sum(len(one.files) for one in series if study_of[one] == uid) for uid in studies}
    listing = "\n".join(f"  - study {uid}: {count} images" for uid, count in counts.items())
    raise ValueError(
        f"The folder holds {len(studies)} studies and {len(patients)} patients, expected one study of one patient:\n"
        f"{listing}\n"
        "Put each study into a folder of its own, and give one of them or the folder that holds them."
    )


def _digest(one: StudySeries, volume: DicomSeries) -> str:
    """SHA-256 of the images' identifiers and positions, and of the pixels of the middle image."""
    images = sorted(
        (raw_uid(header, "SOPInstanceUID"), str(header.get("ImagePositionPatient"))) for header in one.headers
    )
    pixels = read_dicom(volume.files[volume.num_slices // 2], specific_tags=["PixelData"]).PixelData
    return hashlib.sha256(repr(images).encode("utf-8", "surrogateescape") + pixels).hexdigest()
