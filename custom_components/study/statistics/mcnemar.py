"""McNemar's test: do two systems have the same error rate on the same cases?"""

from dataclasses import dataclass

import numpy as np
from custom_components.study.statistics.labelled_scores import labelled_probabilities
from numpy.typing import ArrayLike
from statsmodels.stats.contingency_tables import mcnemar

# Binomial test below this number of discordant cases, otherwise chi-squared (the usual rule).
EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemarTest:
    """Comparison of two systems' correct classifications.

    Args:
        only_a: cases that only the first system classifies correctly.
        only_b: cases that only the second system classifies correctly.
        p_value: two-sided p of equal error rates; 1 without discordant cases.
        exact: True for the binomial test, False for chi-squared with Edwards' correction.
    """

    only_a: int
    only_b: int
    p_value: float
    exact: bool


def mcnemar_test(
    labels: ArrayLike, probabilities_a: ArrayLike, probabilities_b: ArrayLike, threshold: float = 0.5
) -> McNemarTest:
    """McNemar's test of the accuracies of two systems on the same cases.

    It uses only the discordant cases, which exactly one system classifies correctly. The cases must be independent:
    several scans of one patient are not.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        probabilities_a: probabilities of the first system, in [0, 1], shape (N,).
        probabilities_b: probabilities of the second system, the same cases in the same order, shape (N,).
        threshold: a case is classified as COVID-19 if its probability is at least this.

    Returns:
        Counts of discordant cases and the p-value.

    Raises:
        ValueError: when shapes, labels or probabilities are not valid.

    Example:
        >>> mcnemar_test([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.4], [0.9, 0.2, 0.7, 0.6])
        McNemarTest(only_a=3, only_b=0, p_value=0.25, exact=True)
    """
    covid, first, second = labelled_probabilities(labels, probabilities_a, probabilities_b)
    right_a, right_b = (first >= threshold) == covid, (second >= threshold) == covid
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    exact = only_a + only_b < EXACT_BELOW
    table = np.array([[(right_a & right_b).sum(), only_a], [only_b, (~right_a & ~right_b).sum()]])
    p_value = float(mcnemar(table, exact=exact, correction=True).pvalue)
    return McNemarTest(only_a, only_b, p_value, exact)
