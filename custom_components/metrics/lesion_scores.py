"""Dice, accuracy and precision of the lesion classes (Chen et al. 2020, Sec. III-D), from pixel counts per case."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from custom_components.images.case_id import case_prefix
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric

# Rows of a case's counts: label values 0, 1, 2, 3.
SCORE_CLASSES = ("background", *LESION_CLASSES)

# Columns of a class's counts: true positive, predicted, actual and all counted pixels.
TRUE_POSITIVE, PREDICTED, ACTUAL, COUNTED = range(4)

_WORST_CASES = 5  # worst cases: lowest mean Dice over their lesion classes


def dice(counts: torch.Tensor) -> torch.Tensor:
    """Dice 2 TP / (predicted + actual) from pixel counts.

    NaN if the class is in neither truth nor prediction; 0 if it is in only one of them.

    Args:
        counts: pixel counts, shape (..., 4) in the order true positive, predicted, actual, counted.

    Returns:
        Dice in [0, 1] or NaN, float64, shape (...).

    Example:
        >>> dice(torch.tensor([[3, 4, 6, 100], [0, 5, 0, 100], [0, 0, 0, 100]])).tolist()
        [0.6, 0.0, nan]
    """
    counts = counts.double()
    return 2 * counts[..., TRUE_POSITIVE] / (counts[..., PREDICTED] + counts[..., ACTUAL])


def precision(counts: torch.Tensor) -> torch.Tensor:
    """Precision TP / (TP + FP) from pixel counts.

    Without predicted pixels the quotient is 0 / 0. It is set to 0 if the truth has the class (scikit-learn's
    ``zero_division=0``: a missed lesion is not a success) and to NaN if the truth is empty too
    (``zero_division=nan``), so the same cases are averaged as for Dice.

    Args:
        counts: pixel counts, shape (..., 4) in the order true positive, predicted, actual, counted.

    Returns:
        Precision in [0, 1] or NaN, float64, shape (...).

    Example:
        >>> precision(torch.tensor([[3, 4, 6, 100], [0, 0, 6, 100], [0, 0, 0, 100]])).tolist()
        [0.75, 0.0, nan]
    """
    counts = counts.double()
    quotient = counts[..., TRUE_POSITIVE] / counts[..., PREDICTED].clamp(min=1)
    return torch.where(_in_neither(counts), torch.nan, quotient)


def accuracy(counts: torch.Tensor) -> torch.Tensor:
    """Accuracy (TP + TN) / counted of each class against the rest, from pixel counts.

    NaN if the class is in neither truth nor prediction, so the same cases are averaged as for Dice.

    Args:
        counts: pixel counts, shape (..., 4) in the order true positive, predicted, actual, counted.

    Returns:
        Accuracy in [0, 1] or NaN, float64, shape (...).

    Example:
        >>> accuracy(torch.tensor([[3, 4, 6, 100], [0, 0, 0, 100]])).tolist()
        [0.96, nan]
    """
    counts = counts.double()
    wrong = counts[..., PREDICTED] + counts[..., ACTUAL] - 2 * counts[..., TRUE_POSITIVE]
    return torch.where(_in_neither(counts), torch.nan, 1 - wrong / counts[..., COUNTED])


def _class_means(scores: torch.Tensor) -> torch.Tensor:
    """Mean over cases, ignoring NaN, of each lesion class, (3,), from scores (cases, 4)."""
    return scores[:, 1:].nanmean(dim=0)


def mean_lesion_dice(counts: torch.Tensor) -> torch.Tensor:
    """Main score: mean over lesion classes of the mean Dice over cases.

    Args:
        counts: pixel counts, shape (cases, 4, 4).

    Returns:
        Scalar in [0, 1]; classes without cases are excluded; NaN if no case has any lesion class.
    """
    return _class_means(dice(counts)).nanmean()


def summarize_lesions(counts: torch.Tensor, case_ids: Sequence[str]) -> dict[str, Any]:
    """Compute all scores of a set of cases in the format of ``summary.json``.

    ``dice``, ``accuracy`` and ``precision`` are means over cases; ``mean`` is the mean of the three lesion classes.
    ``pooled`` sums the pixels of all cases first and includes the background class, which may explain the numbers in
    the paper: large lesions and the background dominate it.

    Args:
        counts: pixel counts, shape (cases, 4, 4).
        case_ids: name of each case.

    Returns:
        Plain numbers and strings; None if there is nothing to average.

    Raises:
        ValueError: if the number of names differs from the number of cases.
    """
    if len(case_ids) != len(counts):
        raise ValueError(
            f"Expected one name for each of the {len(counts)} scored cases, got {len(case_ids)}. "
            "Give one name per scored case."
        )
    has_class = (counts[..., ACTUAL] > 0).sum(dim=0)
    pooled = counts.sum(dim=0)
    accuracy_of_all = pooled[:, TRUE_POSITIVE].sum().double() / pooled[0, COUNTED]
    means = dice(counts)[:, 1:].nanmean(dim=1).tolist()
    worst = sorted((mean, case_id) for mean, case_id in zip(means, case_ids, strict=True) if not math.isnan(mean))
    return {
        "cases": len(counts),
        "dice": _by_class(LESION_CLASSES, _class_means(dice(counts))),
        "accuracy": _by_class(LESION_CLASSES, _class_means(accuracy(counts))),
        "precision": _by_class(LESION_CLASSES, _class_means(precision(counts))),
        "pooled": {"dice": _by_class(SCORE_CLASSES, dice(pooled)), "accuracy": _number(accuracy_of_all)},
        "cases_with_class": {name: int(has_class[value]) for value, name in enumerate(LESION_CLASSES, 1)},
        "worst_cases": [{"case_id": case_id, "dice": mean} for mean, case_id in worst[:_WORST_CASES]],
    }


class LesionScores(CumulativeIterationMetric):
    """Count pixels per case and class; all lesion scores are computed from these counts.

    Pixels with true label 255 (ignore) are excluded. ``get_buffer()`` returns the counts, shape (cases, 4, 4);
    ``aggregate()`` returns the mean lesion Dice. Attach with
    ``monai.handlers.IgniteMetricHandler(metric_fn=LesionScores(), output_transform=from_engine(["pred", "label"]))``.

    Example:
        >>> truth = torch.tensor([[[[0, 1, 1, 255]]]])
        >>> scores = LesionScores()
        >>> _ = scores(truth.clamp(max=3), truth)
        >>> scores.aggregate().item()
        1.0
    """

    def aggregate(self) -> torch.Tensor:
        """Mean lesion Dice over all cases so far (all processes); NaN without cases."""
        counts = self.get_buffer()
        return torch.tensor(torch.nan) if counts is None else mean_lesion_dice(counts)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """Count one batch.

        Args:
            y_pred: label maps (B, 1, ...) with values 0..3, or one-hot (B, 4, ...).
            y: label maps (B, 1, ...) with values 0..3 or 255, or one-hot (B, 4, ...).
            kwargs: not used.

        Returns:
            Counts, int64, shape (B, 4, 4).

        Raises:
            ValueError: if shapes or values are not valid.
        """
        if y is None:
            raise ValueError("LesionScores needs the true label map. Pass `label` with `pred`.")
        case = case_prefix(y) or case_prefix(y_pred)
        predicted, actual = _label_map(y_pred, "prediction", case), _label_map(y, "truth", case)
        if predicted.shape != actual.shape:
            raise ValueError(
                f"{case}prediction has shape {tuple(predicted.shape[1:])}, truth {tuple(actual.shape[1:])}. "
                "Bring both to one grid before scoring (Invertd, or the same resize)."
            )
        return torch.stack([_count(p, a) for p, a in zip(predicted, actual.to(predicted.device), strict=True)])


def _count(predicted: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
    """Counts (4 classes, 4 columns) of one case from its two label maps of any shape."""
    classes = len(SCORE_CLASSES)
    counted = actual != IGNORE_LABEL
    pairs = actual[counted] * classes + predicted[counted]
    confusion = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    total = confusion.sum().expand(classes)
    return torch.stack([confusion.diagonal(), confusion.sum(dim=0), confusion.sum(dim=1), total], dim=1)


def _label_map(labels: torch.Tensor, name: str, case: str) -> torch.Tensor:
    """Convert a label map (B, 1, ...) or one-hot (B, 4, ...) to a checked integer label map (B, ...)."""
    labels = labels.as_tensor() if isinstance(labels, MetaTensor) else labels
    classes = len(SCORE_CLASSES)
    if labels.shape[1] == classes:
        if not bool((((labels == 0) | (labels == 1)).all(dim=1) & (labels.sum(dim=1) == 1)).all()):
            raise ValueError(f"{case}{name} has 4 channels that are not one-hot. Add AsDiscreted(argmax=True).")
        return labels.argmax(dim=1)
    if labels.shape[1] != 1:
        raise ValueError(f"{case}{name} has {labels.shape[1]} channels. Expected 1 (label map) or {classes} (one-hot).")
    known = [*range(classes), IGNORE_LABEL] if name == "truth" else [*range(classes)]
    wrong = ~torch.isin(labels, torch.tensor(known, device=labels.device))
    if bool(wrong.any()):
        also = f" or {IGNORE_LABEL} (ignore)" if name == "truth" else ""
        raise ValueError(
            f"{case}{name} has value {labels[wrong][0].item():g} at {int(wrong.sum())} pixels. "
            f"Expected 0, 1, 2, 3{also}. Check the label map and resample it with nearest neighbours."
        )
    return labels[:, 0].long()


def _in_neither(counts: torch.Tensor) -> torch.Tensor:
    return counts[..., PREDICTED] + counts[..., ACTUAL] == 0


def _number(value: torch.Tensor) -> float | None:
    return None if value.isnan() else value.item()


def _by_class(names: Sequence[str], scores: torch.Tensor) -> dict[str, float | None]:
    by_class = {name: _number(score) for name, score in zip(names, scores, strict=True)}
    return {**by_class, "mean": _number(scores.nanmean())}
