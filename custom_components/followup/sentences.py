"""The change between two scans in a radiologist's words; a measurement, never a diagnosis."""

from collections.abc import Mapping
from typing import Any

from custom_components.reports.scan.distribution import LEAST_ML, MAINLY
from custom_components.reports.scan.sentences import estimate_text

# Largest change of the infection's volume in a scan that was segmented again after a shift by a fraction of a voxel and
# with more noise, in percent of the larger volume, rounded up. Measured, see docs/compare.md.
REPEAT_PERCENT = 10.0


def repeat_bound_ml(earlier_ml: float, later_ml: float) -> float:
    """Change of volume below which two scans do not differ more than one scan that is measured twice.

    Example:
        >>> repeat_bound_ml(46.0, 80.0), repeat_bound_ml(0.0, 0.3)
        (8.0, 1.0)
    """
    return max(LEAST_ML, REPEAT_PERCENT / 100 * max(earlier_ml, later_ml))


def change_sentence(comparison: Mapping[str, Any]) -> str:
    """Say how the infection changed.

    Args:
        comparison: content of ``comparison.json``, with ``repeat_bound_ml``.

    Returns:
        One or two sentences.
    """
    volume, percent = comparison["infection_ml"]["total"], comparison["infection_percent"]["total"]
    bound_ml, change = comparison["repeat_bound_ml"], comparison["change"]
    bound = f"beyond what the same scan measured twice gives ({estimate_text(bound_ml)} ml)"
    moved = f"{_range(volume)} ml ({_range(percent)} % of the lungs)"
    parts = (
        [] if change is None else list(filter(None, (_part(change, name, bound_ml) for name in ("new", "resolved"))))
    )
    if abs(volume["difference"]) > bound_ml:
        grown = "increased" if volume["difference"] > 0 else "decreased"
        found = f"Infection has {grown} from {moved}"
    elif change is not None and not parts:
        return f"No change {bound}: infection from {moved}."
    else:
        found = f"The volume of infection has not changed {bound}: from {moved}"
    return f"{'; '.join(filter(None, (found, ', and '.join(parts))))}.{_unknown(change)}"


def _range(pair: Mapping[str, float | None]) -> str:
    return " to ".join(
        "unknown" if value is None else estimate_text(value) for value in (pair["earlier"], pair["later"])
    )


def _part(change: Mapping[str, Any], name: str, bound_ml: float) -> str:
    """The new or the resolved volume and its place; empty if it is not beyond the bound."""
    volume_ml = change["volume_ml"][name]
    if volume_ml <= bound_ml:
        return ""
    verb = "are new" if name == "new" else "have resolved"
    return f"{estimate_text(volume_ml)} ml {verb}{_place(change['zones_ml'][name], volume_ml)}"


def _place(zones: Mapping[str, Mapping[str, float]], volume_ml: float) -> str:
    """The third of a lung, or the lung, with at least ``MAINLY`` percent of a volume."""
    thirds = {f"{side} {zone} third": ml for side, lung in zones.items() for zone, ml in lung.items()}
    lungs = {f"{side} lung": sum(lung.values()) for side, lung in zones.items()}
    for places in (thirds, lungs):
        most = max(places, key=lambda place: places[place])
        if 100 * places[most] >= MAINLY * volume_ml:
            return f", mainly in the {most}"
    return ""


def _unknown(change: Mapping[str, Any] | None) -> str:
    return " Where it changed is unknown: the lungs could not be registered." if change is None else ""
