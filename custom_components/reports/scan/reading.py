"""The infection in a radiologist's words: distribution, severity, and how far the networks agree with each other."""

from collections.abc import Mapping
from typing import Any

from custom_components.reports.scan.distribution import LEAST_ML, MAINLY
from custom_components.reports.scan.sentences import estimate_text

# Dice of both networks from which they agree: that of two radiologists on public slices (Fan et al. 2020, Inf-Net).
AGREE = 0.7

_SIDES = {"bilateral": "in both lungs", "right": "in the right lung only", "left": "in the left lung only"}
_PATTERNS = {"peripheral": "mainly peripheral", "central": "mainly central", "both": "peripheral and central"}
_BANDS = {"CT-1": "at most 25 %", "CT-2": "25 to 50 %", "CT-3": "50 to 75 %", "CT-4": "more than 75 %"}
# Share of one class, in percent of both, from which it predominates.
_PREDOMINANT = 2 / 3


def reading_of(report: Mapping[str, Any]) -> list[str]:
    """Describe the infection of a report (``report.json``) in sentences; empty where none was found.

    The rules are those of :mod:`custom_components.reports.scan.distribution`.
    """
    found, infection = report["distribution"], report["infection"]
    if found is None or not infection["volume_ml"]["total"]:
        return []
    sentences = [_distribution(found, report["lesions"]), _severity(found), _agreement(report["agreement"])]
    sentences.append(_consistency(report["consistency"]))
    return list(filter(None, sentences))


def _distribution(found: Mapping[str, Any], lesions: Mapping[str, Any] | None) -> str:
    if found["laterality"] is None:
        return f"Less than {LEAST_ML:g} ml in each lung: too little to describe a distribution."
    shares, outer = found["share_percent"], found["peripheral_percent"]
    pattern = (
        f"{_PATTERNS[found['pattern']]} ({outer:.0f} % of it in the outer third of the lungs, 33 % if spread evenly)"
    )
    most = next(
        (f"mainly in the {zone} thirds" for zone, share in shares.items() if share >= MAINLY), "in several thirds"
    )
    by_zone = ", ".join(f"{zone} {share:.0f} %" for zone, share in shares.items())
    return f"Infection {_SIDES[found['laterality']]}, {pattern}, {most} of their height ({by_zone}){_class(lesions)}."


def _class(lesions: Mapping[str, Any] | None) -> str:
    if lesions is None or not any(lesions["percent_of_lung"].values()):
        return ""
    ground_glass = lesions["percent_of_lung"]["ground_glass"] / sum(lesions["percent_of_lung"].values())
    if ground_glass >= _PREDOMINANT:
        return ", predominantly ground-glass"
    return ", predominantly consolidation" if ground_glass <= 1 - _PREDOMINANT else ", ground-glass and consolidation"


def _severity(found: Mapping[str, Any]) -> str:
    score = (
        "" if found["ct_score"] is None else f"CT score {found['ct_score']} of 24 over six zones (Wang et al. 2020), "
    )
    return (
        f"Severity, approximated from the masks: {score}extent {found['extent']} ({_BANDS[found['extent']]} of the "
        "lungs, MosMedData). Scores of 20 or 25 points need lobes, which are not segmented."
    )


def _agreement(agreement: Mapping[str, Any] | None) -> str:
    if agreement is None or agreement["dice"] is None:
        return ""
    one, other, both = (estimate_text(agreement[name]) for name in ("vbnet_ml", "lesion_network_ml", "both_ml"))
    marked = f"VB-Net marked {one} ml and the lesion network {other} ml, {both} ml of it in common"
    if agreement["dice"] >= AGREE:
        return f"Both networks agree (Dice {agreement['dice']:.2f}): {marked}."
    return f"The networks differ (Dice {agreement['dice']:.2f}): {marked}. Check in the pictures what only one marked."


def _consistency(found: Mapping[str, Any] | None) -> str:
    if found is None or found["isolated_percent"] is None:
        return ""
    alone = (
        f"{found['isolated_percent']:.0f} % of what the lesion network marked has nothing above or below it in the "
        "next slice"
    )
    if found["mirror_dice"] is None:
        return f"{alone}."
    same = f"with left and right exchanged, the network marks the same with Dice {found['mirror_dice']:.2f}"
    return f"{alone}; {same} ({found['mirror_slices']} slices)."
