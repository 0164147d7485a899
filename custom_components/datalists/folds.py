"""Folds of the classifier's scans: by patient, stratified by class and infection size."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from custom_components.datalists.case_problems import shorten
from custom_components.infection_size import CAP, COVID, NORMAL_CLASS, THREE_CLASSES

REBUILD = "Rebuild the datalist with fewer folds (build_datalist --num_folds)"


def assign_folds(scans: Sequence[Mapping[str, Any]], num_folds: int = 5, seed: int = 0) -> list[int]:
    """Assign patients to folds so that the size groups are spread as evenly as possible.

    Folds are stratified by the four size groups, and thereby by label.

    Args:
        scans: ``patient_id``, ``label`` (1 or 0) and ``group`` (size group) of each scan.
        num_folds: number of folds; 1 puts all scans into fold 0, for evaluation only.
        seed: seed of the shuffle; the order of the scans has no effect.

    Returns:
        The fold of each scan, 0 to ``num_folds - 1``.

    Raises:
        ValueError: when a class has too few patients, or a fold would have only one class.
    """
    check_patients(scans, num_folds)
    if num_folds == 1:
        return [0] * len(scans)
    fold_of = _fold_of_patients(scans, num_folds, seed)
    folds = [fold_of[scan["patient_id"]] for scan in scans]
    check_folds(scans, folds)
    return folds


def check_folds(scans: Sequence[Mapping[str, Any]], folds: Sequence[int]) -> None:
    """Check that both classes are in each fold and in the rest; a single fold, for evaluation only, is not checked.

    Raises:
        ValueError: names the fold and the counts.
    """
    known = sorted(set(folds))
    for fold in known if len(known) > 1 else []:
        _check_sides(_sides(scans, folds, fold), fold)


def check_patients(scans: Sequence[Mapping[str, Any]], num_folds: int) -> None:
    """Check that each class has enough patients for the number of folds.

    Args:
        scans: ``patient_id`` and ``label`` of each scan.
        num_folds: number of folds; 1 is always accepted.

    Raises:
        ValueError: names the counts.
    """
    if num_folds < 1:
        raise ValueError(f"num_folds is {num_folds}. Expected 1 or more: one fold validates, the others train.")
    covid, cap = (len({scan["patient_id"] for scan in scans if scan["label"] == label}) for label in (COVID, CAP))
    if num_folds > 1 and min(covid, cap) < num_folds:
        raise ValueError(
            f"{covid} COVID-19 and {cap} CAP patients cannot make {num_folds} folds with both classes in each. "
            f"{REBUILD}, or use --num_folds 1 for evaluation only."
        )
    normal = len({scan["patient_id"] for scan in scans if scan["label"] == NORMAL_CLASS})
    if num_folds > 1 and 0 < normal < num_folds:
        raise ValueError(
            f"{normal} people with normal scans cannot make {num_folds} folds with all classes in each. Use fewer "
            "folds (--num_folds), or leave the normal scans out."
        )


def hold_out_fold(scans: Sequence[Mapping[str, Any]], fold: int | None) -> dict[str, Any]:
    """Split scans into training and validation for a segmentation, whatever their classes.

    Args:
        scans: ``case_id``, ``patient_id`` and ``fold`` of each scan.
        fold: validation fold; None uses every scan for validation and none for training.

    Returns:
        ``training`` and ``validation`` (scans in the given order), ``num_folds``, ``fold``, and ``protocol``, a text.

    Raises:
        ValueError: when the fold does not exist or is the only one, or a patient is in several folds.

    Example:
        >>> scans = [{"case_id": f"{k}", "patient_id": f"{k}", "fold": k % 2} for k in range(4)]
        >>> [scan["case_id"] for scan in hold_out_fold(scans, 1)["validation"]]
        ['1', '3']
    """
    if fold is None:
        facts = {"num_folds": None, "fold": None, "protocol": "all scans (no split)"}
        return {"training": [], "validation": list(scans), **facts}
    known = sorted({scan["fold"] for scan in scans})
    if fold not in known:
        raise ValueError(f"fold is {fold!r}. Expected one of the datalist's folds: {', '.join(map(str, known))}.")
    if len(known) == 1:
        raise ValueError(
            f"All scans are in fold {fold}, so none is left for training. Build the datalist with more folds."
        )
    if problems := patient_problems(scans):
        raise ValueError(f"{problems[0]}.")
    sides = _sides(scans, [scan["fold"] for scan in scans], fold)
    return {**sides, "num_folds": len(known), "fold": fold, "protocol": f"fold {fold} of {len(known)}, by patient"}


def select_fold(scans: Sequence[Mapping[str, Any]], fold: int | None) -> dict[str, Any]:
    """Split scans for a classifier: as :func:`hold_out_fold`, but each scan also has its ``label``.

    Raises:
        ValueError: also when training or validation has only one class.

    Example:
        >>> scans = [{"case_id": f"{k}", "patient_id": f"{k}", "label": k % 2, "fold": k // 2} for k in range(4)]
        >>> split = select_fold(scans, fold=1)
        >>> [scan["case_id"] for scan in split["training"]], [scan["case_id"] for scan in split["validation"]]
        (['0', '1'], ['2', '3'])
    """
    split = hold_out_fold(scans, fold)
    if fold is not None:
        _check_sides(split, fold)
    return split


def patient_problems(scans: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems with patients in more than one fold, which would bias scores. Cases are named, not patients."""
    by_patient: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for scan in scans:
        by_patient[scan["patient_id"]].append(scan)
    split = (own for own in by_patient.values() if len({scan["fold"] for scan in own}) > 1)
    places = ([f"{scan['case_id']} in {scan['fold']}" for scan in own] for own in split)
    return [
        f"{len(own)} cases of one patient are in different folds: {shorten(own)}. Give all scans of a patient one fold"
        for own in places
    ]


def _sides(scans: Sequence[Mapping[str, Any]], folds: Sequence[int], fold: int) -> dict[str, list[Mapping[str, Any]]]:
    pairs = list(zip(scans, folds, strict=True))
    return {
        "training": [scan for scan, own in pairs if own != fold],
        "validation": [scan for scan, own in pairs if own == fold],
    }


def _check_sides(sides: Mapping[str, Sequence[Mapping[str, Any]]], fold: int) -> None:
    verbs = {
        "training": ("trains on", "the classifier needs both classes"),
        "validation": ("validates", "AUC is undefined"),
    }
    has_normals = any(scan["label"] == NORMAL_CLASS for own in verbs for scan in sides[own])
    for side, (verb, reason) in verbs.items():
        counts = Counter(scan["label"] for scan in sides[side])
        if has_normals and not counts[NORMAL_CLASS]:
            raise ValueError(
                f"Fold {fold} {verb} no normal scans, but other folds have some. Assign the folds again with fewer "
                "folds (--num_folds), or leave the normal scans out."
            )
        if not counts[COVID] or not counts[CAP]:
            raise ValueError(
                f"Fold {fold} {verb} {counts[COVID]} COVID-19 and {counts[CAP]} CAP scans: {reason}. "
                f"{REBUILD}, or with another seed."
            )


def _fold_of_patients(scans: Sequence[Mapping[str, Any]], num_folds: int, seed: int) -> dict[str, int]:
    """Fold of each patient: those with most scans first, each in the fold with the fewest similar scans.

    Similar means the same size group, then the same label, then the number of scans; the seed decides ties.
    scikit-learn's StratifiedGroupKFold stratifies by one key only: for 40 random sets of 12 patients in 5 folds, it
    fails for 26 and leaves a fold with one class in 5; for 100 patients, its folds differ by up to 2 scans of a class,
    these by none. Its folds also depend on the installed version.
    """
    own: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for scan in scans:
        own[scan["patient_id"]].append(scan)
    generator = np.random.default_rng(seed)
    names = sorted(own)
    shuffled = [names[place] for place in generator.permutation(len(names))]
    filled: list[Counter[Any]] = [Counter() for _ in range(num_folds)]
    order, fold_of = generator.permutation(num_folds).tolist(), {}
    for name in sorted(shuffled, key=lambda name: -len(own[name])):
        kinds = [scan[key] for key in ("group", "label") for scan in own[name]]
        fold_of[name] = min(order, key=lambda fold: _crowding(filled[fold], kinds))
        filled[fold_of[name]].update(kinds)
    return fold_of


def _crowding(filled: Counter[Any], kinds: Sequence[Any]) -> tuple[int, int, int]:
    """Count of scans in a fold with a patient's size groups, with the patient's labels, and in total."""
    groups, labels = ({kind for kind in kinds if isinstance(kind, sort)} for sort in (str, int))
    total = sum(filled[label] for label in THREE_CLASSES)
    return sum(filled[kind] for kind in groups), sum(filled[kind] for kind in labels), total
