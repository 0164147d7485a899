"""The paper's paired t-test over folds, to print its numbers beside those of a valid test."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_rel

# What a table that prints the test has to say.
T_TEST_NOTE = (
    "Paired t-test over the folds' models, as in the paper. It is not valid: the models share most of their training "
    "cases and, on a test set, all test cases, so that their scores are not independent and p is too small."
)


@dataclass(frozen=True)
class TTest:
    """Two systems' scores over the folds, compared.

    Args:
        difference: mean of the first system's scores minus the second's.
        t: Student's t.
        degrees: of freedom, number of folds - 1.
        p_value: two-sided; NaN with fewer than two folds, or when the differences are one and the same and not 0.
    """

    difference: float
    t: float
    degrees: int
    p_value: float


def t_test_over_folds(scores_a: ArrayLike, scores_b: ArrayLike) -> TTest:
    """Paired t-test of two systems, one score for each fold's model (Ouyang et al. 2020, Sec. IV-D).

    Not valid, and printed under ``--protocol paper`` only, with ``T_TEST_NOTE``. The test takes the folds' differences
    for independent; but any two of five models share three quarters of their training cases, and on the test set they
    are scored on the very same cases. It measures how much the training varies, not how much the cases do: with more
    folds p becomes as small as one likes while the cases stay as they are. Compare systems with
    :func:`custom_components.study.statistics.delong.delong_test` and
    :func:`custom_components.study.statistics.bootstrap.bootstrap_difference`.

    Args:
        scores_a: of the first system, one a fold, shape (K,).
        scores_b: of the second, the same folds in the same order, shape (K,).

    Returns:
        The mean difference, t and the two-sided p value. Equal scores in all folds have t = 0 and p = 1.

    Raises:
        ValueError: when the shapes differ or a score is NaN or infinite.

    Example:
        >>> test = t_test_over_folds([0.95, 0.94, 0.96], [0.93, 0.93, 0.93])
        >>> round(test.difference, 3), round(test.t, 3), round(test.p_value, 3)
        (0.02, 3.464, 0.074)
    """
    first, second = np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"Scores of the folds have shapes {first.shape} and {second.shape}. Expected one score per fold: (K,)."
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("A fold has no score (NaN or infinite). Compare the folds that both systems have.")
    difference, degrees = float((first - second).mean()) if len(first) else math.nan, len(first) - 1
    if len(first) and np.array_equal(first, second):
        return TTest(0.0, 0.0, degrees, 1.0)
    if len(first) < 2 or np.allclose(first - second, difference, rtol=0, atol=1e-12):
        return TTest(difference, math.nan, degrees, math.nan)
    result = ttest_rel(first, second)
    return TTest(difference, float(result.statistic), degrees, float(result.pvalue))
