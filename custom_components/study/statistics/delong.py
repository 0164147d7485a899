"""DeLong's method: confidence interval of an AUC and test of two AUCs on the same cases.

E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988), pp. 837-845; in O(n log n) by midranks as in
X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014), pp. 1389-1393.
"""

import math
from dataclasses import dataclass

import numpy as np
from custom_components.study.statistics.labelled_scores import check_level, labelled_scores
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class DeLongInterval:
    """AUC with confidence interval.

    Args:
        auc: probability that a COVID-19 case scores higher than a CAP case, ties counted half.
        low: lower limit, in [0, 1]; NaN if undefined.
        high: upper limit, likewise.
        standard_error: DeLong's standard error; NaN if a class has a single case.
    """

    auc: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class DeLongTest:
    """Comparison of two AUCs on the same cases.

    Args:
        auc_a: AUC of the first system.
        auc_b: AUC of the second system.
        difference: ``auc_a - auc_b``.
        low: lower limit of the difference, in [-1, 1]; NaN if undefined.
        high: upper limit, likewise.
        z: difference divided by its standard error; NaN if that is 0 and the AUCs differ.
        p_value: two-sided p of equal AUCs; NaN if ``z`` is NaN.
    """

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    z: float
    p_value: float


def delong_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> DeLongInterval:
    """AUC with DeLong's interval: AUC ± z SE, clipped to [0, 1].

    The cases must be independent. With several scans per patient the interval is too narrow: use
    :func:`custom_components.study.statistics.bootstrap.bootstrap_interval`, which draws patients.

    If the scores separate the classes completely (AUC 1 or 0), DeLong's standard error is 0 and gives no information.
    Then the other limit is exact and conservative: k = min(cases of either class) disjoint pairs are all in order
    with probability at most AUC^k, so AUC >= ((1 - level) / 2)^(1 / k).

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        scores: any scores that are higher for COVID-19, shape (N,). The direction is not guessed: inverted scores have
            an AUC below 0.5.
        level: confidence level, in (0, 1).

    Returns:
        AUC, interval and standard error. The limits are NaN if all scores are equal, or if a class has a single case
        that the scores do not separate from the others.

    Raises:
        ValueError: if a class has no case, shapes, labels or level are not valid, or a score is NaN.

    Example:
        >>> labels, scores = [0, 0, 1, 1, 0, 1], [0.1, 0.4, 0.35, 0.8, 0.2, 0.7]
        >>> delong_interval(labels, scores).auc
        0.8888888888888888
        >>> delong_interval(labels, [10 * score - 3 for score in scores]) == delong_interval(labels, scores)
        True
        >>> perfect = delong_interval([0] * 20 + [1] * 30, range(50))
        >>> perfect.auc, round(perfect.low, 3), perfect.high
        (1.0, 0.832, 1.0)
    """
    check_level(level)
    covid, values = labelled_scores(labels, scores)
    wins = _wins(covid, values)
    auc, error = _auc(wins), _standard_error(wins)
    if error == 0:
        return DeLongInterval(auc, *_exact_limits(auc, covid, level), error)
    margin = _quantile(level) * error
    return DeLongInterval(auc, float(np.maximum(auc - margin, 0)), float(np.minimum(auc + margin, 1)), error)


def delong_test(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, level: float = 0.95) -> DeLongTest:
    """DeLong's test of equal AUC of two systems on the same cases.

    The cases must be independent, as for :func:`delong_interval`.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        scores_a: scores of the first system, higher for COVID-19, shape (N,).
        scores_b: scores of the second system, the same cases in the same order, shape (N,).
        level: confidence level of the difference, in (0, 1).

    Returns:
        Both AUCs, their difference with interval, z and the two-sided p-value. Scores with identical ranking give
        difference 0, z = 0 and p = 1. If the standard error of any other difference is 0, or a class has a single
        case, interval, z and p are NaN: the variance of the difference is unknown.

    Raises:
        ValueError: as for :func:`delong_interval`.

    Example:
        >>> labels, first, second = [0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.7, 0.8], [0.3, 0.6, 0.2, 0.7, 0.9]
        >>> test = delong_test(labels, first, second)
        >>> test.auc_a, round(test.auc_b, 3), round(test.p_value, 3)
        (1.0, 0.667, 0.317)
        >>> delong_test(labels, second, second).p_value
        1.0
    """
    check_level(level)
    covid, values_a, values_b = labelled_scores(labels, scores_a, scores_b)
    wins_a, wins_b = _wins(covid, values_a), _wins(covid, values_b)
    between = (wins_a[0] - wins_b[0], wins_a[1] - wins_b[1])
    difference, error = _auc(between), _standard_error(between)
    aucs = _auc(wins_a), _auc(wins_b), difference
    if not any(side.any() for side in between):
        return DeLongTest(*aucs, low=0.0, high=0.0, z=0.0, p_value=1.0)
    if not error > 0:
        return DeLongTest(*aucs, low=math.nan, high=math.nan, z=math.nan, p_value=math.nan)
    margin, z = _quantile(level) * error, difference / error
    low, high = max(difference - margin, -1.0), min(difference + margin, 1.0)
    return DeLongTest(*aucs, low=low, high=high, z=z, p_value=float(2 * norm.sf(abs(z))))


def _wins(covid: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each COVID-19 case the number of CAP cases it outranks, and vice versa for CAP cases; ties count half.

    Values are multiples of 0.5, so sums and differences are exact.
    """
    num_covid, num_cap = int(covid.sum()), int((~covid).sum())
    if not num_covid or not num_cap:
        raise ValueError(
            f"AUC needs both classes, got {num_covid} COVID-19 and {num_cap} CAP cases. Leave the group's AUC empty."
        )
    ranks = rankdata(scores)
    above = ranks[covid] - rankdata(scores[covid])
    return above, num_covid - (ranks[~covid] - rankdata(scores[~covid]))


def _auc(wins: tuple[np.ndarray, np.ndarray]) -> float:
    return float(wins[0].sum() / (len(wins[0]) * len(wins[1])))


def _standard_error(wins: tuple[np.ndarray, np.ndarray]) -> float:
    """Square root of S10 / m + S01 / n; NaN if a class has a single case, unless the variance is zero."""
    above, below = wins
    if len(above) == 1 or len(below) == 1:
        return 0.0 if _auc(wins) in (0, 1) else math.nan
    return math.sqrt(
        above.var(ddof=1) / (len(above) * len(below) ** 2) + below.var(ddof=1) / (len(below) * len(above) ** 2)
    )


def _exact_limits(auc: float, covid: np.ndarray, level: float) -> tuple[float, float]:
    pairs = min(int(covid.sum()), int((~covid).sum()))
    limit = ((1 - level) / 2) ** (1 / pairs)
    return {1.0: (limit, 1.0), 0.0: (0.0, 1 - limit)}.get(auc, (math.nan, math.nan))


def _quantile(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))
