"""AUC with its interval, and the test of two AUCs of the same cases, by DeLong's method.

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
    """AUC with a confidence interval.

    Args:
        auc: probability that a COVID-19 case scores higher than a CAP case, ties counted half.
        low: lower end, in [0, 1]; NaN where there is none.
        high: upper end, likewise.
        standard_error: DeLong's; NaN with a single case of a class.
    """

    auc: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class DeLongTest:
    """Two AUCs of the same cases, compared.

    Args:
        auc_a: of the first system.
        auc_b: of the second.
        difference: ``auc_a - auc_b``.
        low: lower end of the difference's interval, in [-1, 1]; NaN where there is none.
        high: upper end, likewise.
        z: the difference over its standard error; NaN where that is 0 and the AUCs differ.
        p_value: two-sided, that the true AUCs are equal; NaN with ``z``.
    """

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    z: float
    p_value: float


def delong_interval(labels: ArrayLike, scores: ArrayLike, level: float = 0.95) -> DeLongInterval:
    """AUC with DeLong's interval: AUC ± z SE, cut at 0 and 1.

    The cases have to be independent. Several scans of one patient are not: then the interval is too narrow, and
    :func:`custom_components.study.statistics.bootstrap.bootstrap_interval`, which draws patients, is the one to use.

    Where the scores separate the classes without an overlap (AUC 1 or 0), DeLong's standard error is 0 and says
    nothing. Then the other end of the interval is exact and conservative: k = min(cases of either class) disjoint
    pairs are all in order with probability at most AUC^k, so that AUC >= ((1 - level) / 2)^(1 / k).

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        scores: higher for COVID-19, probabilities or any other, shape (N,). The direction is not guessed: scores the
            wrong way round have an AUC below 0.5.
        level: of confidence, in (0, 1).

    Returns:
        The AUC, its interval and standard error. The ends are NaN when all scores are the same, and when a class has
        a single case that the scores do not separate from the others.

    Raises:
        ValueError: when a class has no case, with the counts; when shapes, labels or level are not valid; when a
            score is NaN.

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
    """DeLong's test that two systems have the same AUC on the same cases.

    The cases have to be independent, as for :func:`delong_interval`.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        scores_a: of the first system, higher for COVID-19, shape (N,).
        scores_b: of the second, the same cases in the same order, shape (N,).
        level: of the interval of the difference, in (0, 1).

    Returns:
        Both AUCs, their difference with its interval, z and the two-sided p value. Scores that rank all pairs alike
        have the difference 0, z = 0 and p = 1. Where the standard error of another difference is 0, or a class has a
        single case, the interval, z and p are NaN: the cases do not say how much the difference varies.

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
    """Of each COVID-19 case the CAP cases that it outranks, of each CAP case those that outrank it; ties count half.

    Halves of integers: sums and differences of them are exact.
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
    """Root of S10 / m + S01 / n; NaN with a single case of a class, unless nothing varies."""
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
