"""Content of comparison.json: volumes and percentages side by side, registration and change."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from custom_components._version import NOTICE, __version__
from custom_components.followup.change import BORDER_MM, NEW, RESOLVED, Change, by_zone_ml
from custom_components.followup.registration import LEAST_DICE, Registration
from custom_components.followup.scan import DiagnosedScan
from custom_components.followup.sentences import change_sentence, repeat_bound_ml
from custom_components.labels import LESION_CLASSES
from custom_components.reports.display import voxel_volume_ml
from custom_components.reports.lesions import INFECTION_LABELS
from custom_components.reports.scan.displayed import SIDES

# Version of the format: raised when an entry changes its meaning or is removed.
COMPARISON_VERSION = 1
WHOLE = "total"

_ML_DECIMALS, _DECIMALS = 3, 4


def describe_comparison(
    later: DiagnosedScan,
    earlier: DiagnosedScan,
    registration: Registration,
    change: Change | None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe a comparison in the format of ``docs/comparison.schema.json``.

    Volumes and percentages are those of each scan on its own grid, so that the registration does not change them.

    Args:
        later: the later scan.
        earlier: the earlier scan.
        registration: registration of the earlier scan to the later one.
        change: change of infection; None if the registration is not plausible.
        warnings: what may make the comparison wrong, in sentences.

    Returns:
        Content that can be written as JSON.
    """
    result: dict[str, Any] = {
        "comparison_version": COMPARISON_VERSION,
        "notice": NOTICE,
        "software": {"name": "custom_components", "version": __version__},
        "earlier": _scan(earlier),
        "later": _scan(later),
        "lungs_ml": _by_side(earlier, later, "lungs", "volume_ml"),
        "infection_ml": _by_side(earlier, later, "infection", "volume_ml"),
        "infection_percent": _by_side(earlier, later, "infection", "percent_of_lung"),
        "lesions_ml": _lesions(earlier, later),
        "registration": {
            "lung_dice": round(registration.dice, _DECIMALS),
            "least_dice": LEAST_DICE,
            "is_plausible": registration.is_plausible,
            "moved_mm": round(registration.moved_mm, 1),
        },
        "change": None if change is None else _change(change, later),
    }
    infection = result["infection_ml"][WHOLE]
    result["repeat_bound_ml"] = round(repeat_bound_ml(infection["earlier"], infection["later"]), _ML_DECIMALS)
    return result | {"sentence": change_sentence(result), "warnings": list(warnings)}


def _scan(scan: DiagnosedScan) -> dict[str, Any]:
    models = [{"name": model["name"], "sha256": model["sha256"]} for model in scan.report["models"]]
    return {"case_id": scan.case_id, "scan_sha256": scan.report["scan_sha256"], "models": models}


def _by_side(earlier: DiagnosedScan, later: DiagnosedScan, entry: str, values: str) -> dict[str, Any]:
    one, other = (scan.report[entry][values] for scan in (earlier, later))
    return {side: _pair(one[side], other[side]) for side in (*SIDES, WHOLE)}


def _pair(earlier: float | None, later: float | None) -> dict[str, float | None]:
    difference = None if earlier is None or later is None else round(later - earlier, _DECIMALS)
    return {"earlier": earlier, "later": later, "difference": difference}


def _lesions(earlier: DiagnosedScan, later: DiagnosedScan) -> dict[str, Any] | None:
    """Volumes of the lesion classes: in each lung, and in all as the reports have them; None if one scan has none."""
    if earlier.lesions is None or later.lesions is None:
        return None
    sides = [_lesions_by_side_ml(scan) for scan in (earlier, later)]
    wholes = [scan.report["lesions"]["volume_ml"] for scan in (earlier, later)]
    return {
        name: {
            **{side: _pair(sides[0][name].get(side), sides[1][name].get(side)) for side in SIDES},
            WHOLE: _pair(wholes[0][name], wholes[1][name]),
        }
        for name in LESION_CLASSES
    }


def _lesions_by_side_ml(scan: DiagnosedScan) -> dict[str, dict[str, float]]:
    """Ground-glass and consolidation inside each lung; effusion lies outside the lungs and has no side."""
    voxel_ml = voxel_volume_ml(scan.affine)
    counts = {
        side: np.bincount(scan.lesions[scan.lungs == value], minlength=len(LESION_CLASSES) + 1)
        for side, value in SIDES.items()
        if scan.lesions is not None
    }
    return {
        name: {side: round(float(count[label]) * voxel_ml, _ML_DECIMALS) for side, count in counts.items()}
        if label in INFECTION_LABELS
        else {}
        for label, name in enumerate(LESION_CLASSES, start=1)
    }


def _change(change: Change, later: DiagnosedScan) -> dict[str, Any]:
    volumes = {"persisting": change.persisting_ml, "new": change.new_ml, "resolved": change.resolved_ml}
    zones = {
        name: _rounded(by_zone_ml(change.map == value, later.lungs, later.affine))
        for name, value in (("new", NEW), ("resolved", RESOLVED))
    }
    return {
        "volume_ml": {name: round(volume, _ML_DECIMALS) for name, volume in volumes.items()},
        "zones_ml": zones,
        "uncovered_ml": round(change.uncovered_ml, _ML_DECIMALS),
        "border_mm": BORDER_MM,
    }


def _rounded(zones: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {side: {zone: round(ml, _ML_DECIMALS) for zone, ml in thirds.items()} for side, thirds in zones.items()}
