"""Calibration: do 8 of 10 cases with a probability of 0.8 have COVID-19?"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from custom_components.study.statistics.labelled_scores import labelled_probabilities
from numpy.typing import ArrayLike
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

# Number of bins in the study's tables and figures.
NUM_BINS = 10
# Bins of equal width, or with equal numbers of cases.
Binning = Literal["uniform", "quantile"]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Non-empty bins of a reliability diagram.

    Args:
        predicted: mean probability of COVID-19 in each bin, shape (B,).
        observed: share of COVID-19 in each bin, shape (B,).
        counts: cases in each bin, shape (B,).
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray


def reliability_curve(
    labels: ArrayLike, probabilities: ArrayLike, num_bins: int = NUM_BINS, binning: Binning = "uniform"
) -> ReliabilityCurve:
    """Predicted and observed share of COVID-19 in bins of the predicted probability.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        probabilities: probability of COVID-19 in [0, 1], shape (N,).
        num_bins: number of bins.
        binning: ``uniform`` for bins of equal width in [0, 1], ``quantile`` for bins with equal numbers of cases.

    Returns:
        Non-empty bins, at most ``num_bins``.

    Raises:
        ValueError: if there is no case, or shapes, labels or probabilities are not valid.

    Example:
        >>> curve = reliability_curve([1, 0, 1, 1], [0.1, 0.15, 0.8, 0.9], num_bins=2)
        >>> curve.predicted.round(3).tolist(), curve.observed.tolist(), curve.counts.tolist()
        ([0.125, 0.85], [0.5, 1.0], [2, 2])
    """
    covid, scores = _checked(labels, probabilities)
    observed, predicted = calibration_curve(covid, scores, n_bins=num_bins, strategy=binning, pos_label=True)
    return ReliabilityCurve(predicted, observed, _counts(scores, num_bins, binning))


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, num_bins: int = NUM_BINS, binning: Binning = "uniform"
) -> float:
    """ECE of the probability of COVID-19: mean over cases of |predicted - observed share| of their bin.

    It depends on the bins and is never below 0: with few cases per bin it is large even for perfect predictions.
    Arguments and errors are those of :func:`reliability_curve`.

    Returns:
        In [0, 1].

    Example:
        >>> expected_calibration_error([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
        0.0
        >>> expected_calibration_error([0, 0], [1.0, 1.0])
        1.0
    """
    curve = reliability_curve(labels, probabilities, num_bins, binning)
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.counts))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and label; 0.25 for a constant 0.5.

    Arguments and errors are those of :func:`reliability_curve`.

    Returns:
        In [0, 1]; lower is better.

    Example:
        >>> brier_score([1, 0], [0.5, 0.5])
        0.25
    """
    covid, scores = _checked(labels, probabilities)
    return float(brier_score_loss(covid, scores, pos_label=True))


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    covid, scores = labelled_probabilities(labels, probabilities)
    if not len(covid):
        raise ValueError("Calibration needs at least one case, got 0. Leave the group's calibration empty.")
    return covid, scores


def _counts(scores: np.ndarray, num_bins: int, binning: Binning) -> np.ndarray:
    """Number of cases in each non-empty bin, with the edges of sklearn's ``calibration_curve``."""
    shares = np.linspace(0, 1, num_bins + 1)
    edges = shares if binning == "uniform" else np.percentile(scores, shares * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], scores), minlength=num_bins)
    return counts[counts > 0]
