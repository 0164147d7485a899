"""Dual-sampling ensemble of a study: searched on out-of-fold predictions, applied to held-out predictions."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd
from custom_components.networks.dual_sampling import PAPER_THRESHOLDS, PAPER_WEIGHTS
from custom_components.study.results.study_results import TEST, TV
from custom_components.study.statistics.ensemble_rule import (
    HIGH_THRESHOLDS,
    LOW_THRESHOLDS,
    EnsembleRule,
    search_ensemble,
)

# `nested` searches for each fold on the others; `paper` searches on the very predictions that are then reported.
SearchProtocol = Literal["nested", "paper"]

_PAPER = EnsembleRule(*PAPER_WEIGHTS, *PAPER_THRESHOLDS, auc=math.nan, n=0)
_COLUMNS = ["system", "set", "fold", "case_id", "probability", "attention_dice"]
_MODEL = ["set", "fold"]
_CASE = ["set", "case_id"]


@dataclass(frozen=True)
class EnsembleOutcome:
    """Rules found by the search and predictions of the ensemble.

    Args:
        ensemble: as in ``ClassificationResults``: one row per ``set`` and ``fold`` with ``w_outside``, ``w_inside``,
            ``low``, ``high``, ``auc``, ``n`` (scans of the search) and ``n_left_out`` (scans without ratio or
            probability). NaN if the search had no scans or only one class.
        predictions: as in ``ClassificationResults``: ``system``, ``set``, ``fold``, ``case_id``, ``probability`` and
            ``attention_dice`` (always NaN: the ensemble has no single attention map). The probability is NaN if the
            scan's ratio or a branch's probability is unknown, or no rule was found.
    """

    ensemble: pd.DataFrame
    predictions: pd.DataFrame


def nested_ensemble(
    cases: pd.DataFrame,
    predictions: pd.DataFrame,
    uniform: str,
    size_balanced: str,
    title: str,
    protocol: SearchProtocol = "nested",
    search_thresholds: bool = False,
) -> EnsembleOutcome:
    """Search the weights of Eq. 5 and, if asked for, its thresholds, and predict with them.

    In cross-validation each scan has one out-of-fold prediction per branch. For fold k the rule is searched on the
    other folds, so the reported scores of fold k use none of its labels. For the test set the rule is searched on all
    folds and applied to each fold's pair of models. ``paper`` searches and reports on all folds, as the paper does:
    its AUC is optimistic.

    Args:
        cases: one row per scan with ``set``, ``case_id``, ``label`` and ``ratio``.
        predictions: one row per ``system``, ``set``, ``fold`` (of the model) and ``case_id``, with ``probability``.
            Scans and models that one branch lacks have no ensemble prediction.
        uniform: name of the system with uniform sampling.
        size_balanced: name of the system with size-balanced sampling.
        title: name of the ensemble, used as ``system`` in the result.
        protocol: ``nested`` or ``paper``.
        search_thresholds: whether to search the thresholds of the ratio too; the paper states them without a search.

    Returns:
        Rules and predictions, in the order of sets, folds and case ids.

    Raises:
        ValueError: if the protocol, a label or a probability is not valid, or a prediction occurs twice.

    Example:
        >>> cases = pd.DataFrame({"set": "tv", "case_id": list("abcd"), "label": [1, 0, 1, 0], "ratio": 0.01})
        >>> branch = cases[["set", "case_id"]].assign(fold=[0, 0, 1, 1], probability=[0.9, 0.2, 0.7, 0.4])
        >>> both = pd.concat([branch.assign(system="US"), branch.assign(system="SS")])
        >>> outcome = nested_ensemble(cases, both, "US", "SS", "DS")
        >>> outcome.predictions["probability"].tolist(), outcome.ensemble["n"].tolist()
        ([0.9, 0.2, 0.7, 0.4], [2, 2])
    """
    if protocol not in ("nested", "paper"):
        raise ValueError(f"protocol is {protocol!r}. Expected nested or paper.")
    pairs = _pairs(cases, predictions, uniform, size_balanced)
    out_of_fold = pairs[pairs["set"] == TV]
    search = partial(_search, search_thresholds=search_thresholds)
    everywhere = search(out_of_fold) if protocol == "paper" or (pairs["set"] == TEST).any() else None
    rules, parts = [], []
    for (name, fold), own in pairs.groupby(_MODEL, sort=False):
        nested = name == TV and protocol == "nested"
        rule = search(out_of_fold[out_of_fold["fold"] != fold]) if nested or everywhere is None else everywhere
        rules.append({"set": name, "fold": fold, **vars(rule)})
        parts.append(own.assign(probability=rule.apply(own["p_us"], own["p_ss"], own["ratio"])))
    columns = ["set", "fold", *EnsembleRule.__dataclass_fields__]
    predicted = pd.concat(parts or [pairs.assign(probability=pd.Series(dtype=float))])
    return EnsembleOutcome(pd.DataFrame(rules, columns=columns), _named(predicted, title))


def paper_ensemble(
    cases: pd.DataFrame, predictions: pd.DataFrame, uniform: str, size_balanced: str, title: str
) -> pd.DataFrame:
    """Predict with the weights and thresholds of the paper (Eq. 5), which were found on its own data.

    Args:
        cases: as in :func:`nested_ensemble`.
        predictions: as there.
        uniform: name of the system with uniform sampling.
        size_balanced: name of the system with size-balanced sampling.
        title: name of the ensemble.

    Returns:
        Predictions, as in :class:`EnsembleOutcome`.

    Example:
        >>> cases = pd.DataFrame({"set": "tv", "case_id": ["a", "b"], "label": [1, 0], "ratio": [0.01, 0.1]})
        >>> branch = cases[["set", "case_id"]].assign(fold=0)
        >>> us, ss = branch.assign(system="US", probability=1.0), branch.assign(system="SS", probability=0.0)
        >>> paper_ensemble(cases, pd.concat([us, ss]), "US", "SS", "DS")["probability"].tolist()
        [0.96, 0.35]
    """
    pairs = _pairs(cases, predictions, uniform, size_balanced)
    return _named(pairs.assign(probability=_PAPER.apply(pairs["p_us"], pairs["p_ss"], pairs["ratio"])), title)


def _named(predicted: pd.DataFrame, title: str) -> pd.DataFrame:
    return predicted.assign(system=title, attention_dice=math.nan).reset_index(drop=True)[_COLUMNS]


def _pairs(cases: pd.DataFrame, predictions: pd.DataFrame, uniform: str, size_balanced: str) -> pd.DataFrame:
    """Probabilities of both branches for each scan and model, with label and ratio; cross-validation first."""
    keys = [*_MODEL, "case_id"]
    branches = []
    for column, system in (("p_us", uniform), ("p_ss", size_balanced)):
        own = predictions.loc[predictions["system"] == system, [*keys, "probability"]]
        twice = own[own.duplicated(keys)]
        if len(twice):
            raise ValueError(
                f"Case {twice['case_id'].iloc[0]} has two predictions of {system} by the same model. Expected one."
            )
        branches.append(own.rename(columns={"probability": column}))
    both = branches[0].merge(branches[1], on=keys).merge(cases[[*_CASE, "label", "ratio"]], on=_CASE)
    return both.sort_values(keys, key=lambda column: column == TEST if column.name == "set" else column)


def _search(pairs: pd.DataFrame, search_thresholds: bool) -> EnsembleRule:
    known = pairs.dropna(subset=["p_us", "p_ss", "ratio"])
    if known["label"].nunique() < 2:
        nothing = dict.fromkeys(("w_outside", "w_inside", "low", "high", "auc"), math.nan)
        return EnsembleRule(**nothing, n=len(known), n_left_out=len(pairs) - len(known))
    fixed = tuple((threshold,) for threshold in PAPER_THRESHOLDS)
    low, high = (LOW_THRESHOLDS, HIGH_THRESHOLDS) if search_thresholds else fixed
    return search_ensemble(
        pairs["label"], pairs["p_us"], pairs["p_ss"], pairs["ratio"], low_thresholds=low, high_thresholds=high
    )
