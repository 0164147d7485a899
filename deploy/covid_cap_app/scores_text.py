from collections.abc import Mapping
from typing import Any

SCORES = {
    "p_final": "Probability of COVID-19 against CAP, both branches weighted",
    "p_us": "Probability of the uniform-sampling branch",
    "p_ss": "Probability of the size-balanced branch",
    "ratio": "Infection volume / lung volume",
}


def scores_text(report: Mapping[str, Any]) -> str:
    """Class scores as lines of text.

    Args:
        report: the bundle's diagnosis report; None where a number is unknown.

    Returns:
        One line for each score, then the notes and the research-use notice.

    Example:
        >>> print(scores_text({"p_us": 0.25, "p_ss": 0.5, "p_final": None, "ratio": None, "notice": "Research only."}))
        Probability of COVID-19 against CAP, both branches weighted: unknown
        Probability of the uniform-sampling branch: 0.25
        Probability of the size-balanced branch: 0.5
        Infection volume / lung volume: unknown
        Research only.
    """
    lines = [f"{text}: {'unknown' if report[key] is None else report[key]}" for key, text in SCORES.items()]
    return "\n".join([*lines, *report.get("notes", []), report["notice"]])
