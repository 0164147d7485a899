"""Sentences of a scan report: measurements, never a diagnosis."""

import math
from collections.abc import Mapping
from typing import Any

from custom_components.reports.scan.findings import Scores
from custom_components.reports.scan.left_out import digits_of
from custom_components.transforms.lungs.fallback_lung_mask import FALLBACK_SOURCE
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE

LESION_NAMES = {
    "ground_glass": "ground-glass opacity",
    "consolidation": "consolidation",
    "pleural_effusion": "pleural effusion",
}
NO_SCORES = "No probability of COVID-19 versus community-acquired pneumonia: no classifier weights were found."

_ONLY_TWO = "The classifier only knows these two diseases: a healthy lung or another disease also gets a score."
_ERRORS = (
    "Infection outlined at the dome of the diaphragm, along stomach, liver or trachea is an error of the networks."
)
_THIN = "\u202f"  # narrow no-break space


def amount_text(value: float) -> str:
    """Format a volume in ml or a percentage with about three digits.

    Example:
        >>> [amount_text(value) for value in (0, 0.004, 0.5, 7.25, 31.25, 416)]
        ['0', '< 0.01', '0.50', '7.25', '31.2', '416']
    """
    if value == 0:
        return "0"
    if value < 0.01:
        return "< 0.01"
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}".replace(",", _THIN)


def estimate_text(value: float, digits: int = 2) -> str:
    """Format an estimated volume or percentage with few significant digits, and at most two decimals.

    Example:
        >>> [estimate_text(value) for value in (0, 0.004, 0.054, 6.94, 47.04, 167.2, 1234)]
        ['0', '< 0.01', '0.05', '6.9', '47', '170', '1\u202f200']
        >>> [estimate_text(value, digits=1) for value in (3.67, 47.04)]
        ['4', '50']
    """
    if value < 0.01:
        return amount_text(value)
    decimals = min(2, digits - 1 - math.floor(math.log10(value)))
    return f"{round(value, decimals):,.{max(0, decimals)}f}".replace(",", _THIN)


def class_texts(report: Mapping[str, Any], entry: str = "volume_ml") -> dict[str, str]:
    """Volume of each lesion class in ml, or another entry, with the digits that its scores on left-out data justify."""
    scores, values = report["left_out"], report["lesions"][entry]
    return {
        name: "unknown" if value is None else estimate_text(value, digits_of(scores.get(name)))
        for name, value in values.items()
    }


def findings_line(report: Mapping[str, Any]) -> str:
    """The known numbers of a report (report.json) on one line, for a log."""
    infection, lesions, scores = report["infection"], report["lesions"], report["scores"]
    found = [f"lungs {amount_text(report['lungs']['volume_ml']['total'])} ml"]
    if infection is not None:
        percent = infection["percent_of_lung"]["total"]
        share = "" if percent is None else f" ({estimate_text(percent)} %)"
        found.append(f"infection {estimate_text(infection['volume_ml']['total'])} ml{share}")
    if lesions is not None and lesions["slices_searched"]:
        found += [f"{LESION_NAMES[name]} {text} ml" for name, text in class_texts(report).items()]
    if scores is not None and scores["p_final"] is not None:
        found.append(f"P_final {scores['p_final']:.3f}")
    return ", ".join(found).replace(_THIN, " ")


def summary_of(report: Mapping[str, Any]) -> str:
    """Summarise the findings of a report in a few sentences."""
    sentences = (_infection_sentence(report), _lesion_sentence(report), _score_sentence(report), _synthetic(report))
    return " ".join(filter(None, sentences))


def _infection_sentence(report: Mapping[str, Any]) -> str:
    lung_ml, infection = report["lungs"]["volume_ml"]["total"], report["infection"]
    if infection is None:
        return "Infection was not segmented: the affected percentage of the lungs is unknown."
    if not lung_ml:
        return "No lungs were segmented: the affected percentage is unknown."
    if not infection["volume_ml"]["total"]:
        return f"No infection found in {amount_text(lung_ml)} ml of lung, which does not exclude one."
    percent = infection["percent_of_lung"]
    sides = [
        f"{estimate_text(percent[side])} % of the {side}" for side in ("right", "left") if percent[side] is not None
    ]
    return (
        f"{estimate_text(infection['volume_ml']['total'])} ml of {amount_text(lung_ml)} ml lung "
        f"({estimate_text(percent['total'])} %) were segmented as infection: {' and '.join(sides)} lung, on "
        f"{len(infection['slices'])} of {report['geometry']['slices']} slices.{_as_in_health(report)}"
    )


def _as_in_health(report: Mapping[str, Any]) -> str:
    """That no more was marked than in a CT without infection, if so."""
    false_percent = report["left_out"].get("infection", {}).get("false_percent")
    if false_percent is None or round(report["infection"]["percent_of_lung"]["total"], 1) > false_percent:
        return ""
    return f" It may be none: in a CT without infection, the networks marked {false_percent:g} % of the lungs."


def _lesion_sentence(report: Mapping[str, Any]) -> str:
    lesions = report["lesions"]
    if lesions is None:
        return "Lesion classes were not segmented."
    if not lesions["slices_searched"]:
        return "No slice was searched for lesion classes."
    if not any(lesions["volume_ml"].values()):
        return "No lesion of any class was found."
    amounts = [
        f"{LESION_NAMES[name]} {text} ml" for name, text in class_texts(report).items() if lesions["volume_ml"][name]
    ]
    return f"By class, on the {len(lesions['slices_searched'])} slices searched: {', '.join(amounts)}."


def _score_sentence(report: Mapping[str, Any]) -> str:
    scores = report["scores"]
    if scores is None:
        return NO_SCORES
    if scores["p_final"] is None:
        return (
            f"The classifier branches score {scores['p_us']:.3f} and {scores['p_ss']:.3f} for COVID-19 versus "
            "community-acquired pneumonia; they are not combined because the infection ratio is unknown."
        )
    place = "at or above" if scores["above_threshold"] else "below"
    return (
        f"The classifier scores {scores['p_final']:.3f} for COVID-19 versus community-acquired pneumonia, "
        f"{place} its threshold of {scores['threshold']:g}."
    )


def _synthetic(report: Mapping[str, Any]) -> str:
    names = [model["name"] for model in report["models"] if model["synthetic"]]
    return f"Trained on synthetic CT only, without meaning for a patient: {', '.join(names)}." if names else ""


def score_meanings(scores: Scores) -> dict[str, str]:
    """Explain each score of a scan."""
    branch = "Probability of COVID-19 versus community-acquired pneumonia (CAP) from the branch trained with"
    if scores.weight_us is None:
        final = "Not available: the weights of the two branches depend on the infection ratio, which is unknown."
    else:
        final = (
            f"Weighted mean of both branches: {scores.weight_us:g} P_US + {1 - scores.weight_us:.3g} P_SS, weights "
            "from the infection ratio (Ouyang et al. 2020, Eq. 5)."
        )
    return {"p_final": final, "p_us": f"{branch} uniform sampling.", "p_ss": f"{branch} size-balanced sampling."}


def done_sentences(report: Mapping[str, Any]) -> list[str]:
    """List the completed stages of a report."""
    done = [f"Lungs: {report['lungs']['source']}."]
    if report["infection"] is not None:
        done.append(f"Infection: {report['infection']['source'] or 'source unknown'}.")
    if report["lesions"] is not None:
        searched = len(report["lesions"]["slices_searched"])
        done.append(f"Lesion classes: {searched} of {report['geometry']['slices']} slices searched.")
    if report["scores"] is not None:
        both = "both branches" if report["scores"]["p_final"] is None else "both branches and their weighted mean"
        done.append(f"COVID-19 versus community-acquired pneumonia: {both}.")
    return done


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """List caveats on the numbers of a report."""
    lungs_ml, infection = report["lungs"]["volume_ml"], report["infection"]
    notes = [f"No {side} lung was segmented." for side in ("right", "left") if not lungs_ml[side]]
    if report["lungs"]["source"].startswith(FALLBACK_SOURCE):
        notes.append(
            "The lung mask was made without a model and may miss diseased lung, so volumes may be too small: "
            "check its outline in the pictures."
        )
    if infection is not None and infection["outside_lungs_ml"]:
        outside = amount_text(infection["outside_lungs_ml"])
        notes.append(f"{outside} ml of the infection mask are outside the lungs and not counted.")
    if infection is not None and infection["volume_ml"]["total"]:
        notes.append(_ERRORS)
    if report["scores"] is not None:
        notes.append(_ONLY_TWO)
    if report["lesions"] is not None:
        notes.append("Pleural effusion is outside the lungs and has no lung percentage.")
    if report["agreement"] is not None and infection is not None:
        notes.append(_classes_and_infection(report))
    return notes


def _classes_and_infection(report: Mapping[str, Any]) -> str:
    """Why infection and lesion classes are not the same voxels."""
    agreement, only = report["agreement"], {}
    for network in ("vbnet_ml", "lesion_network_ml"):
        only[network] = estimate_text(max(0.0, agreement[network] - agreement["both_ml"]))
    if report["infection"]["source"] == VBNET_SOURCE:
        return (
            "Infection is from VB-Net only, classes are from the lesion network, whose ground-glass and consolidation "
            f"outside VB-Net's infection ({only['lesion_network_ml']} ml) are not included."
        )
    return (
        "Infection is what VB-Net or the lesion network marked, classes are from the lesion network only: "
        f"{only['vbnet_ml']} ml of infection, marked by VB-Net only, have no class."
    )
