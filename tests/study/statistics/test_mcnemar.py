import math

import pytest
from custom_components.study.statistics.mcnemar import EXACT_BELOW, mcnemar_test
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

CALLS = st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans()), min_size=1, max_size=60)


def probabilities(labels, right):
    return [0.8 if (label == 1) == is_right else 0.2 for label, is_right in zip(labels, right, strict=True)]


def discordant(only_a, only_b, both=3):
    labels = [number % 2 for number in range(only_a + only_b + both)]
    right_a = [True] * only_a + [False] * only_b + [True] * both
    right_b = [False] * only_a + [True] * only_b + [True] * both
    return labels, probabilities(labels, right_a), probabilities(labels, right_b)


def two_sided_binomial(only_a, only_b):
    """Both tails of a fair coin, term by term."""
    tosses, extreme = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(tosses, number) for number in range(extreme + 1)) / 2**tosses
    return min(1.0, 2 * tail)


@given(CALLS)
@settings(max_examples=60, deadline=None)
def test_few_discordant_cases_have_the_p_value_of_a_fair_coin(cases):
    labels = [case[0] for case in cases]
    test = mcnemar_test(labels, *(probabilities(labels, [case[side] for case in cases]) for side in (1, 2)))
    assert (test.only_a, test.only_b) == (sum(a and not b for _, a, b in cases), sum(b and not a for _, a, b in cases))
    assert test.exact == (test.only_a + test.only_b < EXACT_BELOW)
    if test.exact:
        assert test.p_value == pytest.approx(two_sided_binomial(test.only_a, test.only_b))


@pytest.mark.parametrize(("only_a", "only_b"), [(19, 6), (40, 17), (121, 59)])
def test_many_discordant_cases_have_the_p_value_of_edwards_correction(only_a, only_b):
    test = mcnemar_test(*discordant(only_a, only_b))
    assert not test.exact
    assert test.p_value == pytest.approx(chi2.sf((abs(only_a - only_b) - 1) ** 2 / (only_a + only_b), 1))


def test_the_number_of_concordant_cases_has_no_effect():
    assert mcnemar_test(*discordant(7, 2, both=1)) == mcnemar_test(*discordant(7, 2, both=90))
    assert mcnemar_test(*discordant(0, 0)).p_value == 1


def test_a_probability_at_the_threshold_is_classified_as_covid():
    test = mcnemar_test([1, 0], [0.5, 0.5], [0.49, 0.49])
    assert (test.only_a, test.only_b) == (1, 1)
