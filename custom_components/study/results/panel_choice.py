"""Choice of the scans whose attention is drawn, for each set and each system (Fig. 5 and 6 of Ouyang et al. 2020)."""

from collections import defaultdict
from itertools import zip_longest

import pandas as pd
from custom_components.infection_size import COVID, RATIO_BANDS, ratio_band
from custom_components.study.results.study_results import TEST, AttentionPanel, ClassificationResults

THRESHOLD = 0.5


def choose_panels(results: ClassificationResults, count: int) -> list[AttentionPanel]:
    """Scans to show of each set and each system: half correctly classified COVID-19 scans, then half failures.

    Correct scans are taken from each band of the infection ratio in turn, small to large. Within a band, and among the
    failures, scans with the most confident probability come first; among the failures, COVID-19 before CAP. In
    cross-validation each scan is shown by the model that was not trained on it; in the test set by the models of one
    fold, the first with a rule for the ensemble. A scan chosen for several systems is one panel.

    Args:
        results: must include the rules of the ensemble: attention is drawn only by folds with a rule.
        count: maximum number of scans for each set and system.

    Returns:
        Panels without figures, in the order of sets, then of the systems that they were chosen for.
    """
    rules = results.ensemble.dropna(subset="w_inside")
    panels = []
    for name in results.sets:
        folds = sorted({int(fold) for fold in rules.loc[rules["set"] == name, "fold"]})
        folds = folds[:1] if name == TEST else folds
        right, wrong, model = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list), dict[str, int]()
        for system in (system for system in results.systems if system not in results.variants):
            own = results.of_system(name, system).dropna(subset="probability")
            own = own[own["fold"].isin(folds)]
            for chosen, kind in zip(_of_system(own, count), (right, wrong), strict=True):
                for case_id in chosen:
                    kind[case_id].append(system)
            model |= dict(zip(own["case_id"], own["fold"], strict=True))
        panels += [
            AttentionPanel(name, int(model[case_id]), case_id, tuple(right[case_id]), tuple(wrong[case_id]))
            for case_id in dict.fromkeys([*right, *wrong])
        ]
    return panels


def is_right(scans: pd.DataFrame) -> pd.Series:
    """Whether each prediction is correct, for rows with ``label`` and ``probability``."""
    return (scans["probability"] >= THRESHOLD) == (scans["label"] == COVID)


def _of_system(scans: pd.DataFrame, count: int) -> tuple[list[str], list[str]]:
    """Case ids of correct scans, and of failures."""
    is_called = is_right(scans)
    right = scans[is_called & (scans["label"] == COVID)]
    right = right.sort_values(["probability", "case_id"], ascending=[False, True])
    wrong = scans[~is_called].assign(distance=lambda frame: (frame["probability"] - THRESHOLD).abs())
    wrong = wrong.sort_values(["label", "distance", "case_id"], ascending=[False, False, True])
    failures = wrong["case_id"].tolist()[: count // 2]
    return _in_turn(right)[: count - len(failures)], failures


def _in_turn(scans: pd.DataFrame) -> list[str]:
    """Case ids, one from each ratio band in turn."""
    bands = scans["ratio"].map(ratio_band)
    columns = [scans.loc[bands == band, "case_id"] for band in RATIO_BANDS]
    return [case_id for turn in zip_longest(*columns) for case_id in turn if case_id is not None]
