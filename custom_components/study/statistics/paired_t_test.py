"""The paper's paired t-test over folds, for comparison with a valid test."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_rel

# Required note of a table with this test.
T_TEST_NOTE = (
    "Paired t-test over the fold models, as in the paper. It is not valid: the models share most training cases and, "
    "on a test set, all test cases, so their scores are not independent and p is too small."
)


@dataclass(frozen=True)
class TTest:
    """Comparison of two systems' scores over folds.

    Args:
        difference: mean score of the first system minus that of the second.
        t: Student's t.
        degrees: degrees of freedom, number of folds - 1.
        p_value: two-sided; NaN with fewer than two folds, or if all differences are equal and not 0.
    """

    difference: float
    t: float
    degrees: int
    p_value: float


def t_test_over_folds(scores_a: ArrayLike, scores_b: ArrayLike) -> TTest:
    """Paired t-test of two systems, one score per fold model (Ouyang et al. 2020, Sec. IV-D).

    Not valid; printed only with ``--protocol paper`` and with ``T_TEST_NOTE``. The test assumes independent fold
    differences, but any two of five models share three quarters of their training cases, and on the test set all
    models are scored on the same cases. It measures variation of the training, not of the cases: more folds make p
    arbitrarily small for the same cases. Compare systems with
    :func:`custom_components.study.statistics.delong.delong_test` and
    :func:`custom_components.study.statistics.bootstrap.bootstrap_difference`.

    Args:
        scores_a: scores of the first system, one per fold, shape (K,).
        scores_b: scores of the second system, the same folds in the same order, shape (K,).

    Returns:
        Mean difference, t and the two-sided p-value. Equal scores in all folds give t = 0 and p = 1.

    Raises:
        ValueError: if the shapes differ or a score is NaN or infinite.

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
        raise ValueError("A fold has no valid score (NaN or infinite). Compare only the folds that both systems have.")
    difference, degrees = float((first - second).mean()) if len(first) else math.nan, len(first) - 1
    if len(first) and np.array_equal(first, second):
        return TTest(0.0, 0.0, degrees, 1.0)
    if len(first) < 2 or np.allclose(first - second, difference, rtol=0, atol=1e-12):
        return TTest(difference, math.nan, degrees, math.nan)
    result = ttest_rel(first, second)
    return TTest(difference, float(result.statistic), degrees, float(result.pvalue))
