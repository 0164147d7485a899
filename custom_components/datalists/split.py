import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from custom_components.datalists.case_files import NO_DATA, natural_key
from custom_components.datalists.slices import Case
from custom_components.files.atomic import absolute_path, atomic_path
from sklearn.model_selection import KFold

PROTOCOLS = ("group", "paper")
PATH_KEYS = ("image", "label", "lung")


class NoSplit(dict[str, Any]):
    """The split when there are no data; reading a side is an error. MONAI Label sets both lists itself."""

    def __missing__(self, side: str) -> list[Case]:
        raise ValueError(NO_DATA)


def split_cases(
    cases: Sequence[Case] | None,
    num_folds: int = 5,
    fold: int | None = 0,
    protocol: Literal["group", "paper"] = "group",
    border: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Split cases into training and validation, by patient where known.

    - ``"group"``, if every case has a group (patient or site): whole groups are assigned to folds of similar size.
    - ``"group"``, if no groups are known: folds are contiguous blocks of the case ids in natural order, because
      neighbouring numbers often are slices of the same patient. A patient may still span the end of a block;
      ``border`` removes that many cases on each side from training. The default is 0, so that every case is
      used, e.g. 64 + 16 of 80 in 5 folds.
    - ``"paper"``: random slices, as in Chen et al. 2020. Slices of one patient are on both sides, so scores are
      too high; only for comparison with the paper.

    With ``fold=None`` every case is used for validation and none for training, for data the network has not seen.

    Args:
        cases: cases from ``list_cases``; None gives an empty split whose sides cannot be read.
        num_folds: number of folds, 2 or more.
        fold: validation fold, 0 .. num_folds - 1, in order for contiguous blocks. None: all cases.
        protocol: "group" or "paper".
        border: cases removed from training on each side of a contiguous block; no effect otherwise.
        seed: seed of the shuffles; contiguous blocks are not shuffled.

    Returns:
        ``protocol`` (in words), ``num_folds``, ``fold``, ``border``, ``seed`` and the lists of cases ``training``,
        ``validation`` and ``left_out``, each in natural order.

    Raises:
        ValueError: when there are fewer cases (or groups) than folds, a number is out of range, or only some
            cases have a group.

    Example:
        >>> cases = [{"case_id": f"{number:03d}", "image": "", "group": ""} for number in range(80)]
        >>> split = split_cases(cases, num_folds=5, fold=4)
        >>> split["validation"][0]["case_id"], split["validation"][-1]["case_id"], len(split["training"])
        ('064', '079', 64)
    """
    if cases is None:
        return NoSplit()
    ordered = sorted(cases, key=lambda case: natural_key(case["case_id"]))
    if fold is None:
        facts = {"protocol": "all cases (no split)", "num_folds": None, "fold": None, "border": border, "seed": seed}
        return {**facts, "training": [], "validation": ordered, "left_out": []}
    _check(cases, num_folds, fold, protocol, border)
    groups = [case.get("group") or "" for case in ordered]
    left_out = np.zeros(len(ordered), dtype=bool)
    if protocol == "paper":
        words = "paper (random slices: patients may leak between folds)"
        folds = _random_folds(len(ordered), num_folds, seed)
    elif any(groups):
        words, folds = "group", _group_folds(groups, num_folds, seed)
    else:
        words, folds = "group (contiguous blocks of cases: no groups given)", _block_folds(len(ordered), num_folds)
        left_out = _near(folds == fold, border)
    training = (folds != fold) & ~left_out
    if not training.any():
        raise ValueError(f"A border of {border} leaves no case for training (of {len(ordered)}). Use a smaller border.")
    masks = {"training": training, "validation": folds == fold, "left_out": left_out}
    picked = {side: [ordered[k] for k in np.flatnonzero(mask)] for side, mask in masks.items()}
    return {"protocol": words, "num_folds": num_folds, "fold": fold, "border": border, "seed": seed, **picked}


def write_split(split: Mapping[str, Any], path: str | Path, root: str | Path | None = None) -> Path:
    """Write a split as JSON, atomically.

    Args:
        split: split from ``split_cases``.
        path: file to write.
        root: data set folder; file paths in it are written relative to it, so that the split does not depend on its
            location.

    Returns:
        The path.
    """
    sides = {
        key: [_relative(case, root) for case in value] if isinstance(value, list) else value
        for key, value in split.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(sides, indent=2) + "\n", encoding="utf-8")
    return Path(path)


def _relative(case: Case, root: str | Path | None) -> Case:
    if root is None:
        return case
    base = absolute_path(root)
    below = {key: Path(case[key]) for key in PATH_KEYS if key in case and Path(case[key]).is_relative_to(base)}
    return {**case, **{key: path.relative_to(base).as_posix() for key, path in below.items()}}


def _check(cases: Sequence[Case], num_folds: int, fold: int, protocol: str, border: int) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}. Expected 'group' or 'paper'.")
    if num_folds < 2:
        raise ValueError(f"num_folds is {num_folds}. Expected 2 or more: one fold validates, the others train.")
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold is {fold}. Expected 0 to {num_folds - 1} for {num_folds} folds.")
    if border < 0:
        raise ValueError(f"border is {border}. Expected a whole number, 0 or more.")
    if len(cases) < num_folds:
        raise ValueError(
            f"{len(cases)} cases cannot make {num_folds} folds. "
            f"Add cases, or use fewer folds: --num_folds {len(cases)}."
        )
    without = [case["case_id"] for case in cases if not case.get("group")]
    if protocol == "group" and 0 < len(without) < len(cases):
        raise ValueError(
            f"{len(without)} of {len(cases)} cases have no group, the first is {without[0]}. "
            "Set the group (patient or site) of every case, or of no case."
        )


def _random_folds(count: int, num_folds: int, seed: int) -> np.ndarray:
    folds = np.empty(count, dtype=int)
    splitter = KFold(num_folds, shuffle=True, random_state=seed)
    for number, (_, validation) in enumerate(splitter.split(np.zeros(count))):
        folds[validation] = number
    return folds


def _group_folds(groups: Sequence[str], num_folds: int, seed: int) -> np.ndarray:
    """Assign groups, the largest first, to the fold with the fewest cases; the seed breaks ties.

    Folds of 10 groups of 1 to 11 cases differ by 2.6 cases on average, those of scikit-learn's StratifiedGroupKFold by
    7 (5 folds); GroupKFold does not balance shuffled groups.
    """
    sizes = Counter(groups)
    if len(sizes) < num_folds:
        raise ValueError(
            f"{len(sizes)} groups cannot make {num_folds} folds. Use fewer folds: --num_folds {len(sizes)}."
        )
    generator = np.random.default_rng(seed)
    names = list(sizes)
    shuffled = [names[k] for k in generator.permutation(len(names))]
    filled, fold_of = generator.permutation(num_folds) * 1e-6, {}
    for name in sorted(shuffled, key=lambda name: -sizes[name]):
        fold_of[name] = int(np.argmin(filled))
        filled[fold_of[name]] += sizes[name]
    return np.array([fold_of[name] for name in groups])


def _block_folds(count: int, num_folds: int) -> np.ndarray:
    blocks = np.array_split(np.arange(count), num_folds)
    return np.repeat(np.arange(num_folds), [len(block) for block in blocks])


def _near(block: np.ndarray, border: int) -> np.ndarray:
    """Cases up to ``border`` places before or after the block."""
    inside = np.flatnonzero(block)
    near = np.zeros_like(block)
    near[max(inside[0] - border, 0) : inside[-1] + border + 1] = True
    return near & ~block
