"""From the per-case tables of a study's evaluations to its results: covid_seg_bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from custom_components.images.ct_reader import case_name
from custom_components.labels import LESION_CLASSES
from custom_components.study.plans.collect_cap import PER_CASE
from custom_components.study.plans.seg_plan import ALL_NETWORKS, Arm, SegStudy
from custom_components.study.results.case_table import read_case_table
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.runs.runner import Outcome

NUMBERS = ("dice", "precision", "accuracy", "pixels_true", "pixels_pred")
SCORE_COLUMNS = {
    "network": "object",
    "augmented": "bool",
    "protocol": "object",
    "fold": "int64",
    "case_id": "object",
    "lesion": "object",
    **dict.fromkeys(NUMBERS[:3], "float64"),
    **dict.fromkeys(NUMBERS[3:], "int64"),
}


def collect_seg(study: SegStudy, outcome: Outcome) -> SegmentationResults:
    """Results of a study, of those runs that are finished.

    Args:
        study: what was planned.
        outcome: what became of its runs.

    Returns:
        The results. A run that did not finish has no scores, and is among the failed ones.
    """
    finished = [arm for arm in study.arms() if outcome.has(study.evaluation(arm))]
    scores = pd.concat([pd.DataFrame(columns=list(SCORE_COLUMNS)), *(_scores(study, arm) for arm in finished)])
    return SegmentationResults(
        protocols=study.words(),
        cases=_cases(study),
        scores=scores[list(SCORE_COLUMNS)].astype(SCORE_COLUMNS).reset_index(drop=True),
        networks=tuple(ALL_NETWORKS[network][0] for network in study.networks),
        overlays={
            key: path
            for arm in finished
            if arm.augmented == study.augmentation[0]
            for key, path in _overlays(study, arm)
        },
        failed=tuple(outcome.failed),
        augmentation=study.augmentation,
    )


def _cases(study: SegStudy) -> pd.DataFrame:
    pairs = zip(study.data.cases, study.data.further, strict=True)
    return pd.DataFrame([{"case_id": case["case_id"], "group": case["group"], **further} for case, further in pairs])


def _scores(study: SegStudy, arm: Arm) -> pd.DataFrame:
    """Long table of a fold: a row for each case and lesion class."""
    table = read_case_table(study.evaluation(arm).folder / PER_CASE)
    ids = table["case_id"].map(_ids(study, arm))
    own: dict[str, Any] = {"network": ALL_NETWORKS[arm.network][0], "augmented": arm.augmented}
    own |= {"protocol": arm.protocol, "fold": arm.fold}
    parts = []
    for lesion in LESION_CLASSES:
        columns = {f"{number}_{lesion}": number for number in NUMBERS}
        parts.append(table[list(columns)].rename(columns=columns).assign(case_id=ids, lesion=lesion, **own))
    return pd.concat(parts)


def _ids(study: SegStudy, arm: Arm) -> dict[str, str]:
    """Case ids of a fold by the names of the images, which evaluations name cases by."""
    return {case_name(case["image"]): case["case_id"] for case in study.split(arm.protocol, arm.fold)["validation"]}


def _overlays(study: SegStudy, arm: Arm) -> Iterator[tuple[tuple[str, str, str], Path]]:
    folder = study.evaluation(arm).folder / "eval"
    for name, case_id in _ids(study, arm).items():
        drawn = sorted((folder / name).glob(f"{name}_overlay_*.png"))
        if drawn:
            yield (ALL_NETWORKS[arm.network][0], arm.protocol, case_id), drawn[0]
