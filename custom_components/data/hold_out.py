from collections.abc import Mapping, Sequence
from typing import Any

from custom_components.data.folds import patient_problems


def hold_out_fold(scans: Sequence[Mapping[str, Any]], fold: int | None) -> dict[str, Any]:
    """Split scans of any classes into those that train and those that validate, for a segmentation.

    A classifier's split is :func:`custom_components.data.folds.select_fold`, which asks for both classes.

    Args:
        scans: ``case_id``, ``patient_id`` and ``fold`` of each.
        fold: the fold that validates; None lets every scan validate and none train.

    Returns:
        ``training`` and ``validation``, lists of scans in their order, ``fold``, and ``protocol``, which says the same
        in words.

    Raises:
        ValueError: when the fold is not there or is all there is, or a patient is on two sides.

    Example:
        >>> scans = [{"case_id": f"{k}", "patient_id": f"{k}", "fold": k % 2} for k in range(4)]
        >>> [scan["case_id"] for scan in hold_out_fold(scans, 1)["validation"]]
        ['1', '3']
    """
    if fold is None:
        return {"training": [], "validation": list(scans), "fold": None, "protocol": "all scans (no split)"}
    known = sorted({scan["fold"] for scan in scans})
    if fold not in known or len(known) == 1:
        raise ValueError(
            f"fold is {fold!r} and the datalist has {', '.join(map(str, known))}. Expected one of several: one fold "
            "validates, the others train."
        )
    problems = patient_problems(scans)
    if problems:
        raise ValueError(f"{problems[0]}.")
    training, validation = ([scan for scan in scans if (scan["fold"] == fold) is held] for held in (False, True))
    protocol = f"fold {fold} of {len(known)}, by patient"
    return {"training": training, "validation": validation, "fold": fold, "protocol": protocol}
