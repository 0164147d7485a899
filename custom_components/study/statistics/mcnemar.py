"""McNemar's test: do two systems err on the same share of the same cases?"""

from dataclasses import dataclass

import numpy as np
from custom_components.study.statistics.labelled_scores import labelled_probabilities
from numpy.typing import ArrayLike
from statsmodels.stats.contingency_tables import mcnemar

# With fewer discordant cases than this the binomial test, from it on the chi-squared one (the usual rule).
EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemarTest:
    """Two systems' correct calls, compared.

    Args:
        only_a: cases that the first system alone calls correctly.
        only_b: cases that the second alone does.
        p_value: two-sided, that both are equally likely; 1 when there is no such case.
        exact: whether it is the binomial test's, rather than the chi-squared one's with Edwards' correction.
    """

    only_a: int
    only_b: int
    p_value: float
    exact: bool


def mcnemar_test(
    labels: ArrayLike, probabilities_a: ArrayLike, probabilities_b: ArrayLike, threshold: float = 0.5
) -> McNemarTest:
    """McNemar's test of the accuracies of two systems on the same cases.

    It looks at the discordant cases alone, which one system calls correctly and the other does not. The cases have to
    be independent: several scans of one patient are not.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        probabilities_a: of the first system, in [0, 1], shape (N,).
        probabilities_b: of the second, the same cases in the same order, shape (N,).
        threshold: a case is called COVID-19 when its probability is at least this.

    Returns:
        Counts of the discordant cases and the p value.

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
