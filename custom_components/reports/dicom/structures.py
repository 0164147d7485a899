"""Table of segmented structures and their DICOM codes, for segmentation and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from custom_components._version import __version__
from custom_components.labels import LEFT, LESION_CLASSES, RIGHT
from custom_components.pictures.overlay import LESION_COLOURS
from custom_components.reports.scan.findings import ScanFindings

if TYPE_CHECKING:
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.coding import Code

# Private concepts (designators starting with 99), missing in DICOM and in pydicom's extract of SNOMED.
PRIVATE_SCHEME = "99COVIDCT"
PRIVATE_MEANINGS = {
    "INFECTION": "Infected part of the lung",
    "CONSOLIDATION": "Consolidation of the lung",
    "INFECTED_PERCENT": "Infected part of the lung in percent of its volume",
    "COVID_OR_CAP": "COVID-19 or community-acquired pneumonia",
    "P_US": "Probability of COVID-19, branch with uniform sampling",
    "P_SS": "Probability of COVID-19, branch with size-balanced sampling",
    "P_FINAL": "Probability of COVID-19, both branches weighted",
}

_LUNG, _PLEURA = ("SCT", "Lung"), ("SCT", "Pleura")
_ANATOMY, _ABNORMAL = ("SCT", "AnatomicalStructure"), ("SCT", "MorphologicallyAbnormalStructure")


@dataclass(frozen=True)
class Structure:
    """A structure. Concepts are (scheme, keyword) of pydicom's dictionary, or (PRIVATE_SCHEME, code).

    Args:
        label: name shown by viewers.
        category: concept of its category.
        kind: concept of its type.
        site: concept of its location.
        array: name of the findings' array with its mask.
        value: its value in this array.
        made_by: returns a text on the origin of the mask.
        colour: RGB 0..255.
        side: ``Left`` or ``Right`` of a pair.
    """

    label: str
    category: tuple[str, str]
    kind: tuple[str, str]
    site: tuple[str, str]
    array: str
    value: int
    made_by: Callable[[ScanFindings], str]
    colour: tuple[int, int, int]
    side: str | None = None


def _lung(side: str, value: int, colour: tuple[int, int, int]) -> Structure:
    return Structure(
        label=f"{side} lung",
        category=_ANATOMY,
        kind=_LUNG,
        site=_LUNG,
        array="lungs",
        value=value,
        made_by=lambda findings: findings.lung_source,
        colour=colour,
        side=side,
    )


def _lesion(name: str, kind: tuple[str, str], site: tuple[str, str]) -> Structure:
    value = LESION_CLASSES.index(name) + 1
    return Structure(
        label=name.replace("_", " ").capitalize(),
        category=_ABNORMAL,
        kind=kind,
        site=site,
        array="lesions",
        value=value,
        made_by=lambda findings: f"lesion classes, predicted on {len(findings.lesion_slices)} slices",
        colour=LESION_COLOURS[name],
    )


STRUCTURES = (
    _lung("Left", LEFT, (0, 114, 178)),
    _lung("Right", RIGHT, (179, 67, 0)),
    Structure(
        label="Infection",
        category=_ABNORMAL,
        kind=(PRIVATE_SCHEME, "INFECTION"),
        site=_LUNG,
        array="infection",
        value=1,
        made_by=lambda findings: findings.infection_source or "unknown",
        colour=(214, 39, 40),
    ),
    _lesion("ground_glass", ("DCM", "GroundGlassOpacity"), _LUNG),
    _lesion("consolidation", (PRIVATE_SCHEME, "CONSOLIDATION"), _LUNG),
    _lesion("pleural_effusion", ("SCT", "PleuralEffusion"), _PLEURA),
)


@dataclass(frozen=True)
class Outlined:
    """A structure of one scan.

    Args:
        structure: the structure.
        voxels: number of its voxels, 0 if not found.
        tracking_uid: UID shared by segmentation and measurements.
        segment: number of its segment; None if it has none.
    """

    structure: Structure
    voxels: int
    tracking_uid: str
    segment: int | None


def concept(scheme: str, keyword: str) -> Code:
    """Code of a concept.

    Args:
        scheme: designator of the coding scheme.
        keyword: pydicom's name of the concept, or a code of this package's own scheme.

    Returns:
        The code.

    Example:
        >>> concept("DCM", "GroundGlassOpacity").meaning
        'Ground glass opacity'
        >>> concept("99COVIDCT", "P_US").value
        'P_US'
    """
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    if scheme == PRIVATE_SCHEME:
        return Code(keyword, PRIVATE_SCHEME, PRIVATE_MEANINGS[keyword])
    return getattr(getattr(codes, scheme), keyword)


def private_scheme() -> CodingSchemeIdentificationItem:
    """Identify the scheme of the private codes in an object."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, name="Concepts of the package custom_components", version=__version__
    )
