"""AUC, accuracy, sensitivity, specificity and macro-F1 of COVID-19 against CAP (Ouyang et al. 2020, Sec. IV)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from custom_components.infection_size import CAP, CLASS_NAMES, COVID, RATIO_BANDS, SIZE_GROUPS
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, roc_auc_score

# Columns with a probability of COVID-19: final, and of each branch.
PREDICTORS = ("probability", "p_us", "p_ss")

_LABELS = {name: label for label, name in CLASS_NAMES.items()}


def classification_scores(
    labels: ArrayLike, probabilities: ArrayLike, threshold: float = 0.5
) -> dict[str, int | float | None]:
    """Compute the scores of a two-class diagnosis; COVID-19 is the positive class.

    A case is classified as COVID-19 if its probability is at least ``threshold``. The F1 is the mean of the F1 of
    COVID-19 and of CAP, as in the paper.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        probabilities: probability of COVID-19 in [0, 1], shape (N,).
        threshold: in [0, 1].

    Returns:
        The counts ``n``, ``n_covid`` and ``n_cap``, and ``auc``, ``accuracy``, ``sensitivity``, ``specificity`` and
        ``macro_f1``. Undefined scores are None: all without cases, sensitivity without COVID-19, specificity
        without CAP, AUC and macro-F1 with one class.

    Raises:
        ValueError: if shapes, labels, probabilities or threshold are not valid.

    Example:
        >>> scores = classification_scores([1, 1, 0, 0], [0.9, 0.5, 0.6, 0.1])
        >>> scores["auc"], scores["sensitivity"], scores["specificity"]
        (0.75, 1.0, 0.5)
        >>> classification_scores([1, 1], [0.9, 0.2])["auc"] is None
        True
    """
    actual, score = _checked(labels, probabilities, threshold)
    called = (score >= threshold).astype(int)
    covid, cap = actual == COVID, actual == CAP
    has_both = bool(covid.any() and cap.any())
    right = called == actual
    shares = {"accuracy": right, "sensitivity": right[covid], "specificity": right[cap]}
    return {
        "n": len(actual),
        "n_covid": int(covid.sum()),
        "n_cap": int(cap.sum()),
        "auc": float(roc_auc_score(actual, score)) if has_both else None,
        **{name: float(of.mean()) if of.size else None for name, of in shares.items()},
        "macro_f1": float(f1_score(actual, called, average="macro")) if has_both else None,
    }


def attention_overlap(attention: ArrayLike, mask: ArrayLike, level: float = 0.5) -> float:
    """Dice of a thresholded attention map and the infection mask.

    The soft mask T(A) = sigmoid(alpha (A - beta)) of Eq. 2 is 0.5 where A = beta, so the default level equals the
    paper's threshold on the attention.

    Args:
        attention: values in [0, 1], any shape.
        mask: infection, not 0 inside, same shape.
        level: threshold: values of at least this count as attended.

    Returns:
        Dice in [0, 1]; NaN if the mask is empty.

    Raises:
        ValueError: if the shapes differ, or a value is NaN or infinite.

    Example:
        >>> attention_overlap([0.9, 0.5, 0.4, 0.0], [1, 0, 0, 0])
        0.6666666666666666
    """
    values, inside = _array(attention), _array(mask)
    if not (np.isfinite(values).all() and np.isfinite(inside).all()):
        raise ValueError("Attention or infection contains NaN or infinite values. Check the loaded weights.")
    attended, infected = values >= level, inside != 0
    if attended.shape != infected.shape:
        raise ValueError(
            f"Expected attention and infection on one grid, got {attended.shape} and {infected.shape}. "
            "Resample the mask with the image, or map the attention back to the mask's grid."
        )
    if not infected.any():
        return math.nan
    return 2.0 * int((attended & infected).sum()) / (int(attended.sum()) + int(infected.sum()))


def summarize_classification(rows: Sequence[Mapping[str, Any]], threshold: float = 0.5) -> dict[str, Any]:
    """Compute all scores of a set of cases in the format of ``summary.json``.

    A case without final probability (its ratio is unknown, so Eq. 5 has no weight) is counted in
    ``cases_without_probability`` and excluded from the final scores.

    Args:
        rows: for each case ``label`` (``covid`` or ``cap``), ``probability``, ``ratio_band``, ``size_group`` and
            optionally ``p_us``, ``p_ss`` and ``attention_dice``; None if unknown.
        threshold: a case is classified as COVID-19 if its probability is at least this.

    Returns:
        Counts, and the scores of :func:`classification_scores` ``overall``, ``by_ratio`` and ``by_size_group``;
        ``branches`` has the same for ``p_us`` and ``p_ss``; ``attention_dice`` is the mean over the COVID-19 cases
        with a value. None if there is nothing to score.

    Raises:
        ValueError: if a label or probability is not valid.

    Example:
        >>> row = {"label": "covid", "probability": 0.7, "ratio_band": "< 0.005", "size_group": "covid_small"}
        >>> summary = summarize_classification([row])
        >>> summary["by_size_group"]["covid_small"]["sensitivity"], summary["by_ratio"]["> 0.030"]["n"]
        (1.0, 0)
    """
    branches = [name for name in PREDICTORS[1:] if any(row.get(name) is not None for row in rows)]
    overlaps = [row["attention_dice"] for row in rows if row.get("attention_dice") is not None]
    return {
        "cases": len(rows),
        "cases_without_probability": sum(row["probability"] is None for row in rows),
        "cases_without_ratio": sum(row["ratio_band"] is None for row in rows),
        "threshold": threshold,
        **_scores_of(rows, PREDICTORS[0], threshold),
        "attention_dice": {"mean": float(np.mean(overlaps)) if overlaps else None, "n": len(overlaps)},
        "branches": {name: _scores_of(rows, name, threshold) for name in branches},
    }


def labels_and_probabilities(
    rows: Iterable[Mapping[str, Any]], predictor: str = PREDICTORS[0]
) -> tuple[list[int], list[float]]:
    """Labels and probabilities of the cases with this probability.

    Args:
        rows: as for :func:`summarize_classification`.
        predictor: one of ``PREDICTORS``.

    Returns:
        Labels, 1 or 0, and probabilities.
    """
    known = [row for row in rows if row.get(predictor) is not None]
    return [_LABELS.get(row["label"], row["label"]) for row in known], [row[predictor] for row in known]


def _scores_of(rows: Sequence[Mapping[str, Any]], predictor: str, threshold: float) -> dict[str, Any]:
    def scores(column: str = "", value: str = "") -> dict[str, int | float | None]:
        chosen = [row for row in rows if not column or row[column] == value]
        return classification_scores(*labels_and_probabilities(chosen, predictor), threshold)

    return {
        "overall": scores(),
        "by_ratio": {band: scores("ratio_band", band) for band in RATIO_BANDS},
        "by_size_group": {group: scores("size_group", group) for group in SIZE_GROUPS},
    }


def _checked(labels: ArrayLike, probabilities: ArrayLike, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    actual, score = _array(labels), _array(probabilities).astype(np.float64)
    if actual.ndim != 1 or actual.shape != score.shape:
        raise ValueError(
            f"Expected labels and probabilities of shape (N,), got {actual.shape} and {score.shape}. "
            "Give one label and one probability for each case."
        )
    if (wrong := actual[~np.isin(actual, (CAP, COVID))]).size:
        raise ValueError(f"label is {wrong[0]}. Expected 1 (COVID-19) or 0 (CAP).")
    for name, value in [("probability", score), ("threshold", np.array([threshold]))]:
        outside = ~((value >= 0) & (value <= 1))
        if outside.any():
            raise ValueError(f"{name} is {value[outside][0]:g}. Expected 0 to 1: apply the sigmoid to logits.")
    return actual.astype(int), score


def _array(values: ArrayLike) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
