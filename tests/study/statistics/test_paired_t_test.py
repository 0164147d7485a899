import math

import numpy as np
import pytest
from custom_components.study.statistics.paired_t_test import T_TEST_NOTE, t_test_over_folds

# Extra hours of sleep of 10 patients with two drugs: Student's own data ("The probable error of a mean", Biometrika 6
# (1908), p. 20), whose paired t is 4.062.
FIRST = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
SECOND = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]


def test_students_own_example():
    test = t_test_over_folds(FIRST, SECOND)
    assert (test.difference, test.t, test.degrees) == (pytest.approx(1.58), pytest.approx(4.0621, abs=5e-5), 9)
    assert test.p_value == pytest.approx(0.002833, abs=5e-7)


def test_systems_with_the_same_scores_do_not_differ():
    assert t_test_over_folds(FIRST, FIRST).p_value == 1


@pytest.mark.parametrize(("first", "second"), [([0.9], [0.8]), ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6])])
def test_differences_that_do_not_vary_have_no_p_value(first, second):
    test = t_test_over_folds(first, second)
    assert test.difference == pytest.approx(0.1)
    assert math.isnan(test.p_value)


def test_scores_of_different_folds_are_not_compared():
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\).*one score per fold"):
        t_test_over_folds([0.9, 0.8, 0.7], [0.9, 0.8])
    with pytest.raises(ValueError, match="A fold has no valid score"):
        t_test_over_folds([0.9, math.nan], [0.9, 0.8])


def test_more_folds_of_the_same_two_systems_make_any_difference_significant():
    """What the note says: p falls with the number of models, though not one case more is looked at."""
    generator = np.random.default_rng(0)
    differences = 0.001 + 0.005 * generator.normal(size=2000)
    few, many = (t_test_over_folds(differences[:folds], np.zeros(folds)).p_value for folds in (5, 2000))
    assert few > 0.05 > 0.001 > many
    assert "not valid" in T_TEST_NOTE
