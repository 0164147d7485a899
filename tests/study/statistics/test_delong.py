import math

import numpy as np
import pytest
from custom_components.study.statistics.delong import delong_interval, delong_test
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from tests.reference.delong import auc_and_error, difference_and_error

SCORES = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0])  # few values: ties within and between the classes
COVID = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=9)
CAP = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=7)

# Albumin, total protein, 10 - Krebs-Goplerud score and outcome (SAS's popind) of 43 patients with ovarian
# cancer: data of DeLong et al. (1988) without the six patients with a missing test, as printed in the SAS/STAT User's
# Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves"; facts of a publication.
OVARIAN_TABLE = """
    3.0 5.8 0 0  3.2 6.3 5 1  3.9 6.8 7 1  2.8 4.8 4 0  3.2 5.8 7 1  0.9 4.0 5 0  2.5 5.7 2 0  1.6 5.6 5 1
    3.8 5.7 5 1  3.7 6.7 4 1  3.2 5.4 6 1  3.8 6.6 4 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 6 1  3.6 6.7 6 0
    2.3 4.4 4 1  4.2 7.6 6 0  4.0 6.6 4 0  3.5 5.8 4 1  3.8 6.8 3 1  3.0 4.7 2 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6 4 1  4.1 8.2 4 1  4.3 7.0 5 1  4.3 6.5 6 1  3.2 5.1 5 1  2.6 4.7 4 1  3.3 6.8 4 0  1.7 4.0 3 0
    3.7 6.1 5 1  3.3 6.3 3 1  4.2 7.7 4 1  3.5 6.2 5 1  2.9 5.7 1 0  2.1 4.8 3 1  2.8 6.2 2 0  4.0 7.0 3 1
    3.3 5.7 4 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
OVARIAN = np.array(OVARIAN_TABLE.split(), dtype=float).reshape(43, 4)
MARKERS = {"albumin": OVARIAN[:, 0], "total_protein": OVARIAN[:, 1], "kg": OVARIAN[:, 2]}
OUTCOME = OVARIAN[:, 3]


def drawn(covid, cap):
    labels = [1] * len(covid) + [0] * len(cap)
    return labels, [pair[0] for pair in covid + cap], [pair[1] for pair in covid + cap]


@given(COVID, CAP)
@settings(max_examples=80, deadline=None)
def test_auc_and_error_equal_a_count_of_all_pairs(covid, cap):
    labels, scores, _ = drawn(covid, cap)
    interval, (auc, error) = delong_interval(labels, scores), auc_and_error(labels, scores)
    assert interval.auc == pytest.approx(auc, abs=1e-12)
    assert interval.standard_error == pytest.approx(error, abs=1e-12)
    if error > 1e-9:
        assert interval.low == pytest.approx(max(auc - 1.959964 * error, 0), abs=1e-6)
        assert interval.high == pytest.approx(min(auc + 1.959964 * error, 1), abs=1e-6)


@given(COVID, CAP)
@settings(max_examples=80, deadline=None)
def test_the_difference_and_its_error_are_those_of_the_full_covariance_matrix(covid, cap):
    labels, first, second = drawn(covid, cap)
    test, (difference, error) = delong_test(labels, first, second), difference_and_error(labels, first, second)
    assert test.difference == pytest.approx(difference, abs=1e-12)
    assert test.difference == pytest.approx(test.auc_a - test.auc_b, abs=1e-12)
    if error > 1e-6:
        assert test.z == pytest.approx(difference / error, abs=1e-6)
        assert test.p_value == pytest.approx(2 * (1 - norm.cdf(abs(difference / error))), abs=1e-6)


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("albumin", (0.7366, 0.0927, 0.5549, 0.9182)),
        ("kg", (0.7258, 0.1028, 0.5243, 0.9273)),
        ("total_protein", (0.6478, 0.1000, 0.4518, 0.8439)),
    ],
)
def test_areas_of_the_ovarian_cancer_data_are_those_that_sas_prints(marker, expected):
    interval = delong_interval(OUTCOME, MARKERS[marker])
    assert (interval.auc, interval.standard_error, interval.low, interval.high) == pytest.approx(expected, abs=5.1e-5)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("albumin", (0.0108, -0.1761, 0.1976, 0.0127, 0.9102)),
        ("total_protein", (-0.078, -0.283, 0.1271, 0.5554, 0.4561)),
    ],
)
def test_differences_of_the_ovarian_cancer_data_are_those_that_sas_prints(first, expected):
    test = delong_test(OUTCOME, MARKERS[first], MARKERS["kg"])
    assert (test.difference, test.low, test.high, test.z**2, test.p_value) == pytest.approx(expected, abs=5.1e-5)


def test_a_small_example_is_cut_at_one_as_pauc_prints_it():
    labels = [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1]
    scores = [0.1, 0.35, 0.24, 0.8, 0.2, 0.85, 0.13, 0.85, 0.74, 0.58, 0.71, 0.25]
    interval = delong_interval(labels, scores)
    assert (round(interval.auc, 3), round(interval.low, 3), interval.high) == (0.708, 0.378, 1.0)


def test_the_interval_has_its_nominal_coverage():
    generator = np.random.default_rng(5)
    labels = np.repeat([1, 0], [60, 40])
    truth, inside = norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(400):
        interval = delong_interval(labels, labels + generator.normal(size=100), level=0.9)
        inside += interval.low <= truth <= interval.high
    assert binom.ppf(0.001, 400, 0.88) <= inside <= binom.ppf(0.999, 400, 0.92)


def test_the_test_has_its_nominal_size():
    generator = np.random.default_rng(6)
    labels = np.repeat([1, 0], [70, 50])
    rejected = 0
    for _ in range(400):
        shared = labels + generator.normal(size=120)
        first, second = (shared + generator.normal(size=120) for _ in range(2))
        rejected += delong_test(labels, first, second).p_value < 0.1
    assert binom.ppf(0.001, 400, 0.08) <= rejected <= binom.ppf(0.999, 400, 0.12)


def test_separated_classes_have_an_exact_limit():
    perfect = delong_interval([1] * 5 + [0] * 9, [*range(10, 15), *range(9)])
    assert (perfect.auc, perfect.high, perfect.standard_error) == (1.0, 1.0, 0.0)
    assert perfect.low**5 == pytest.approx(0.025)
    assert delong_interval([1, 0, 0, 0], [0.9, 0.1, 0.6, 0.2]).low == pytest.approx(0.025)
    inverse = delong_interval([0] * 5 + [1] * 9, [*range(10, 15), *range(9)])
    assert (inverse.auc, inverse.low, inverse.high) == (0.0, 0.0, pytest.approx(1 - perfect.low))


def test_the_exact_limit_is_missed_no_more_often_than_the_level_allows():
    generator = np.random.default_rng(7)
    labels, missed, separated = np.repeat([1, 0], [4, 6]), 0, 0
    truth = norm.cdf(2.2 / math.sqrt(2))
    for _ in range(1500):
        interval = delong_interval(labels, 2.2 * labels + generator.normal(size=10), level=0.6)
        separated += interval.auc == 1
        missed += interval.auc == 1 and interval.low > truth
    assert separated > 200
    assert missed <= 0.2 * 1500


def test_a_constant_score_or_a_single_case_of_a_class_has_no_interval():
    constant, single = delong_interval([1, 0, 1, 0, 0], [0.4] * 5), delong_interval([1, 0, 0, 0], [0.5, 0.1, 0.6, 0.2])
    assert (constant.auc, single.auc) == (0.5, pytest.approx(2 / 3))
    assert all(math.isnan(value) for value in (constant.low, constant.high, single.low, single.standard_error))
    test = delong_test([1, 0, 0, 0], [0.5, 0.1, 0.6, 0.2], [0.5, 0.1, 0.2, 0.2])
    assert test.difference == pytest.approx(-1 / 3)
    assert math.isnan(test.p_value)


@given(COVID, CAP)
@settings(max_examples=30, deadline=None)
def test_systems_with_equal_ranks_do_not_differ(covid, cap):
    labels, scores, _ = drawn(covid, cap)
    test = delong_test(labels, scores, [score**3 for score in scores])
    assert (test.difference, test.low, test.high, test.z, test.p_value) == (0, 0, 0, 0, 1)


def test_a_difference_without_variance_has_no_p_value():
    test = delong_test([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], [0.5] * 4)
    assert test.difference == 0.5
    assert math.isnan(test.p_value)
    assert math.isnan(test.low)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both classes, got 3 COVID-19 and 0 CAP"),
        ([0, 0], [0.1, 0.2], "both classes, got 0 COVID-19 and 2 CAP"),
        ([], [], "both classes, got 0 COVID-19 and 0 CAP"),
        ([1, 0, 1], [0.1, 0.2], r"shapes \(3,\), \(2,\).*one label and one score"),
        ([[1], [0]], [[0.1], [0.2]], r"shapes \(2, 1\)"),
        ([1, 0, 2], [0.1, 0.2, 0.3], r"label is 2. Expected 1 \(COVID-19\) or 0 \(CAP\)"),
        ([1, 0, 1], [0.1, math.nan, math.nan], r"2 of 3 scores are missing \(NaN\)"),
    ],
)
def test_cases_without_an_auc_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        delong_interval(labels, scores)
    with pytest.raises(ValueError, match=message):
        delong_test(labels, scores, scores)


def test_a_level_in_percent_is_refused():
    with pytest.raises(ValueError, match=r"level is 95. Expected.*such as 0.95"):
        delong_interval([0, 1], [0.1, 0.2], level=95)
