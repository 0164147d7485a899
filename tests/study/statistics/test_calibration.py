import numpy as np
import pytest
from custom_components.study.statistics.calibration import brier_score, expected_calibration_error, reliability_curve
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40).map(lambda n: n / 40)), min_size=1, max_size=50)
BINS, BINNING = st.integers(1, 12), st.sampled_from(["uniform", "quantile"])


def binned_error(labels, probabilities, num_bins):
    """ECE with bins of equal width, bin by bin; a bin's upper edge belongs to it."""
    error = 0.0
    for number in range(num_bins):
        low, high = np.linspace(0, 1, num_bins + 1)[number : number + 2]
        own = [(y, p) for y, p in zip(labels, probabilities, strict=True) if low < p <= high or p == low == 0]
        if own:
            gap = sum(p for _, p in own) / len(own) - sum(y for y, _ in own) / len(own)
            error += len(own) / len(labels) * abs(gap)
    return error


@given(CASES, BINS)
@settings(max_examples=80, deadline=None)
def test_the_error_equals_a_count_bin_by_bin(cases, num_bins):
    labels, probabilities = zip(*cases, strict=True)
    error = expected_calibration_error(labels, probabilities, num_bins)
    assert error == pytest.approx(binned_error(labels, probabilities, num_bins))


@given(CASES, BINS, BINNING)
@settings(max_examples=80, deadline=None)
def test_each_case_is_in_one_bin(cases, num_bins, binning):
    labels, probabilities = zip(*cases, strict=True)
    curve = reliability_curve(labels, probabilities, num_bins, binning)
    assert curve.predicted.shape == curve.observed.shape == curve.counts.shape
    assert curve.counts.sum() == len(cases)
    assert (curve.counts * curve.observed).sum() == pytest.approx(sum(labels))
    assert (curve.counts * curve.predicted).sum() == pytest.approx(sum(probabilities))


@given(CASES, BINS, BINNING)
@settings(max_examples=60, deadline=None)
def test_the_error_is_between_the_error_of_the_mean_and_that_of_the_cases(cases, num_bins, binning):
    labels, probabilities = (np.array(column) for column in zip(*cases, strict=True))
    error = expected_calibration_error(labels, probabilities, num_bins, binning)
    assert error >= abs((probabilities - labels).mean()) - 1e-12
    assert error <= np.abs(probabilities - labels).mean() + 1e-12


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one():
    generator = np.random.default_rng(0)
    probabilities = generator.random(20_000)
    labels = (generator.random(20_000) < probabilities).astype(int)
    extreme = np.where(probabilities > 0.5, 0.99, 0.01)
    for binning in ("uniform", "quantile"):
        assert expected_calibration_error(labels, probabilities, binning=binning) < 0.02
        assert expected_calibration_error(labels, extreme, binning=binning) == pytest.approx(0.24, abs=0.01)


def test_quantile_bins_have_equal_numbers_of_cases():
    probabilities = np.random.default_rng(1).beta(1, 6, 300)
    curve = reliability_curve(np.arange(300) % 2, probabilities, num_bins=6, binning="quantile")
    assert curve.counts.tolist() == pytest.approx([50] * 6, abs=1)
    assert reliability_curve(np.arange(300) % 2, probabilities, num_bins=6).counts.max() > 100


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_the_brier_score_is_the_mean_squared_error(cases):
    expected = sum((p - y) ** 2 for y, p in cases) / len(cases)
    assert brier_score(*zip(*cases, strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize("score", [reliability_curve, expected_calibration_error, brier_score])
def test_no_cases_and_logits_are_refused(score):
    with pytest.raises(ValueError, match="needs at least one case, got 0"):
        score([], [])
    with pytest.raises(ValueError, match="probability is 3"):
        score([1, 0], [3, 0.5])
