"""How good the weights are on left-out data, for the numbers of a report (from the bundles' ``metadata.json``)."""

from collections.abc import Mapping
from typing import Any

from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE

# Infection by VB-Net alone, and by either network; the latter holds for the included weights of both.
VBNET_INFECTION, EITHER_INFECTION = "infection", "infection_either"
# Mean Dice below which a volume is rounded to one digit instead of two.
ONE_DIGIT_BELOW = 0.5


def left_out_scores(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Scores of the applied weights by structure: ``lungs``, ``infection`` and the lesion classes.

    Args:
        report: the entries ``models`` and ``infection`` of ``report.json``.

    Returns:
        Dice values and the data; without structures that were not measured, such as those of other weights.

    Example:
        >>> scores = {"dice": [0.7, 0.02], "on": "2 CT"}
        >>> left_out_scores({"models": [{"left_out": {"pleural_effusion": scores}}], "infection": None})
        {'pleural_effusion': {'dice': [0.7, 0.02], 'on': '2 CT'}}
    """
    known = {name: dict(scores) for model in report["models"] for name, scores in model["left_out"].items()}
    either, vbnet = known.pop(EITHER_INFECTION, None), known.pop(VBNET_INFECTION, None)
    if report["infection"] is None or vbnet is None:
        return known
    used = vbnet if report["infection"]["source"] == VBNET_SOURCE else either
    return known if used is None else {**known, "infection": used}


def digits_of(scores: Mapping[str, Any] | None) -> int:
    """Significant digits of a volume: two, or one if its mean Dice on left-out data is below one half.

    Example:
        >>> digits_of({"dice": [0.695, 0.024]}), digits_of({"dice": [0.641]}), digits_of(None)
        (1, 2, 2)
    """
    return 1 if scores and sum(scores["dice"]) / len(scores["dice"]) < ONE_DIGIT_BELOW else 2


def dice_text(scores: Mapping[str, Any]) -> str:
    """Dice values in words.

    Example:
        >>> dice_text({"dice": [0.695, 0.024], "on": "2 CT"})
        '0.69 and 0.02 (2 CT)'
    """
    return f"{' and '.join(f'{value:.2f}' for value in scores['dice'])} ({scores['on']})"
