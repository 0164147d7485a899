"""What the report of one scan says in words; it measures and never names a diagnosis."""

from collections.abc import Mapping
from typing import Any

from custom_components.reports.scan.findings import Scores
from custom_components.transforms.lungs.fallback_lung_mask import FALLBACK_SOURCE
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE

LESION_NAMES = {
    "ground_glass": "ground-glass opacity",
    "consolidation": "consolidation",
    "pleural_effusion": "pleural effusion",
}
NO_SCORES = "No probability of COVID-19 against community-acquired pneumonia: there were no classifier weights."

_ONLY_TWO = "The classifier knows these two diseases only: a healthy lung or another disease gets a score all the same."
_THIN = "\u202f"  # narrow space that does not break


def amount_text(value: float) -> str:
    """A volume in ml or a percentage to about three figures.

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


def summary_of(report: Mapping[str, Any]) -> str:
    """What was found, in a few plain sentences.

    Args:
        report: a scan's ``lungs``, ``infection``, ``lesions``, ``scores`` and ``geometry``.
    """
    return " ".join((_infection_sentence(report), _lesion_sentence(report), _score_sentence(report)))


def _infection_sentence(report: Mapping[str, Any]) -> str:
    lung_ml, infection = report["lungs"]["volume_ml"]["total"], report["infection"]
    if infection is None:
        return "Infection was not segmented: how much of the lungs is affected is unknown."
    if not lung_ml:
        return "No lungs were segmented: how much of them is affected is unknown."
    if not infection["volume_ml"]["total"]:
        return f"No infection was segmented in {amount_text(lung_ml)} ml of lung; that does not exclude one."
    percent = infection["percent_of_lung"]
    sides = [f"{amount_text(percent[side])} % of the {side}" for side in ("right", "left") if percent[side] is not None]
    return (
        f"{amount_text(infection['volume_ml']['total'])} ml of {amount_text(lung_ml)} ml lung "
        f"({amount_text(percent['total'])} %) were segmented as infection: {' and '.join(sides)} lung, on "
        f"{len(infection['slices'])} of {report['geometry']['slices']} slices."
    )


def _lesion_sentence(report: Mapping[str, Any]) -> str:
    lesions = report["lesions"]
    if lesions is None:
        return "Lesion classes were not searched for."
    if not lesions["slices_searched"]:
        return "No slice was searched for lesion classes."
    amounts = [f"{LESION_NAMES[name]} {amount_text(volume)} ml" for name, volume in lesions["volume_ml"].items()]
    return f"By class, on the {len(lesions['slices_searched'])} slices searched: {', '.join(amounts)}."


def _score_sentence(report: Mapping[str, Any]) -> str:
    scores = report["scores"]
    if scores is None:
        return NO_SCORES
    if scores["p_final"] is None:
        return (
            f"The branches of the classifier score {scores['p_us']:.3f} and {scores['p_ss']:.3f} for COVID-19 against "
            "community-acquired pneumonia; they are not put together, since the infection ratio is unknown."
        )
    place = "at or above" if scores["above_threshold"] else "below"
    return (
        f"The classifier scores {scores['p_final']:.3f} for COVID-19 against community-acquired pneumonia, "
        f"{place} its threshold of {scores['threshold']:g}."
    )


def score_meanings(scores: Scores) -> dict[str, str]:
    """What each score means.

    Args:
        scores: of the scan.
    """
    branch = "Probability of COVID-19 rather than community-acquired pneumonia (CAP), of the branch trained with"
    if scores.weight_us is None:
        final = "Not given: the weights of the two branches depend on the infection ratio, which is unknown."
    else:
        final = (
            f"Both branches together: {scores.weight_us:g} P_US + {1 - scores.weight_us:.3g} P_SS, weighted by the "
            "infection ratio (Ouyang et al. 2020, Eq. 5)."
        )
    return {"p_final": final, "p_us": f"{branch} uniform sampling.", "p_ss": f"{branch} size-balanced sampling."}


def done_sentences(report: Mapping[str, Any]) -> list[str]:
    """What was done, stage by stage.

    Args:
        report: as for :func:`summary_of`.
    """
    done = [f"Lungs: {report['lungs']['source']}."]
    if report["infection"] is not None:
        done.append(f"Infection: {report['infection']['source'] or 'source unknown'}.")
    if report["lesions"] is not None:
        searched = len(report["lesions"]["slices_searched"])
        done.append(f"Lesion classes: {searched} of {report['geometry']['slices']} slices searched.")
    if report["scores"] is not None:
        both = "both branches" if report["scores"]["p_final"] is None else "both branches and their weighted mean"
        done.append(f"COVID-19 against community-acquired pneumonia: {both}.")
    return done


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """What to bear in mind when reading the numbers.

    Args:
        report: as for :func:`summary_of`.
    """
    lungs_ml, infection = report["lungs"]["volume_ml"], report["infection"]
    notes = [f"No {side} lung was segmented." for side in ("right", "left") if not lungs_ml[side]]
    if report["lungs"]["source"].startswith(FALLBACK_SOURCE):
        notes.append(
            "The lung mask was made without a model and may leave out diseased lung, so that volumes come out "
            "too small: check its outline in the pictures."
        )
    if infection is not None and infection["outside_lungs_ml"]:
        outside = amount_text(infection["outside_lungs_ml"])
        notes.append(f"{outside} ml of the infection mask lie outside the lungs and are not counted.")
    if report["scores"] is not None:
        notes.append(_ONLY_TWO)
    if report["lesions"] is not None:
        notes.append("Pleural effusion lies outside the lungs and has no percentage of them.")
        if infection is not None and infection["source"] == VBNET_SOURCE:
            notes.append(
                "Infection is VB-Net's alone: ground-glass and consolidation of the lesion network are not part of it."
            )
    return notes
