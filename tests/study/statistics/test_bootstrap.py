import math

import numpy as np
import pandas as pd
import pytest
from custom_components.metrics.classification_scores import classification_scores
from custom_components.study.statistics.bootstrap import bootstrap_difference, bootstrap_interval
from custom_components.study.statistics.case_statistics import CASE_STATISTICS, mean_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from scipy.stats import bootstrap as scipy_bootstrap


def scans(num_patients=40, seed=0):
    """One to three scans of each patient, probabilities that carry signal, and a Dice that some scans lack."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 4, num_patients)
    label = np.repeat(generator.integers(0, 2, num_patients), sizes)
    logit = 2 * label - 1 + np.repeat(generator.normal(size=num_patients), sizes) + generator.normal(size=sizes.sum())
    dice = np.where(generator.random(sizes.sum()) < 0.2, np.nan, generator.random(sizes.sum()))
    patients = np.repeat([f"p{number:03d}" for number in range(num_patients)], sizes)
    columns = {"patient_id": patients, "label": label, "probability": 1 / (1 + np.exp(-logit)), "dice": dice}
    return pd.DataFrame(columns)


def slow(name):
    return lambda frame: classification_scores(frame["label"], frame["probability"])[name]


@pytest.mark.parametrize("name", ["accuracy", "auc"])
def test_any_function_of_a_table_agrees_with_the_weighted_statistic(name):
    frame = scans(16)
    weighted = bootstrap_interval(frame, CASE_STATISTICS[name], resamples=300, seed=4)
    by_table = bootstrap_interval(frame, slow(name), resamples=300, seed=4)
    assert vars(by_table) == pytest.approx(vars(weighted))
    assert weighted.low < weighted.value < weighted.high


@pytest.mark.parametrize("statistic", [*CASE_STATISTICS.values(), mean_of("dice")], ids=lambda own: own.name)
def test_the_interval_contains_the_value(statistic):
    frame = scans()
    interval = bootstrap_interval(frame, statistic, resamples=500)
    assert interval.value == pytest.approx(statistic(frame))
    assert interval.low < interval.value < interval.high
    assert interval.resamples == 500


def test_all_scans_of_a_patient_are_drawn_together():
    frame = pd.DataFrame({"patient_id": list("aaabbc")})
    seen = set()

    def look(cases):
        counts = cases["patient_id"].value_counts()
        seen.update((name, counts.get(name, 0) / size) for name, size in (("a", 3), ("b", 2), ("c", 1)))
        return float(counts.get("a", 0) // 3 + counts.get("b", 0) // 2 + counts.get("c", 0))

    interval = bootstrap_interval(frame, look, resamples=200)
    assert {times for _, times in seen} == {0, 1, 2, 3}
    assert (interval.value, interval.low, interval.high) == (3, 3, 3)


def test_with_one_scan_per_patient_it_is_the_ordinary_bootstrap():
    frame = pd.DataFrame({"dice": np.random.default_rng(1).beta(5, 2, 60), "patient_id": range(100, 160)})
    by_patient = bootstrap_interval(frame, mean_of("dice"), resamples=4000)
    assert by_patient == bootstrap_interval(frame, mean_of("dice"), groups=None, resamples=4000)
    ordinary = scipy_bootstrap((frame["dice"],), np.mean, method="percentile", n_resamples=4000, rng=2)
    interval = ordinary.confidence_interval
    assert (by_patient.low, by_patient.high) == pytest.approx((interval.low, interval.high), abs=0.004)


@given(st.permutations(range(len(scans(7)))))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_rows_has_no_effect(order):
    frame = scans(7)
    first = bootstrap_interval(frame, CASE_STATISTICS["auc"], resamples=50)
    assert vars(bootstrap_interval(frame.iloc[order], CASE_STATISTICS["auc"], resamples=50)) == vars(first)


def test_the_interval_depends_only_on_the_seed():
    frame = scans()
    first, again, other = (bootstrap_interval(frame, mean_of("dice"), resamples=300, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def correlated_dice(generator, num_patients=40, scans_each=5):
    centre = np.repeat(0.7 + 0.1 * generator.normal(size=num_patients), scans_each)
    dice = centre + 0.05 * generator.normal(size=len(centre))
    return pd.DataFrame({"patient_id": np.repeat(range(num_patients), scans_each), "dice": dice})


def test_drawing_patients_covers_the_truth_and_drawing_scans_does_not():
    generator, covered = np.random.default_rng(8), {"patient_id": 0, None: 0}
    for _ in range(250):
        frame = correlated_dice(generator)
        for groups in covered:
            interval = bootstrap_interval(frame, mean_of("dice"), groups, resamples=250, level=0.9)
            covered[groups] += interval.low <= 0.7 <= interval.high
    assert binom.ppf(0.001, 250, 0.86) <= covered["patient_id"] <= binom.ppf(0.999, 250, 0.92)
    assert covered[None] < 0.75 * 250


def test_resamples_without_a_class_are_counted():
    frame = pd.DataFrame({"patient_id": list("abcd"), "label": [1, 0, 0, 0], "probability": [0.9, 0.2, 0.4, 0.1]})
    interval = bootstrap_interval(frame, CASE_STATISTICS["auc"], resamples=4000)
    without_covid, all_covid = (3 / 4) ** 4, (1 / 4) ** 4
    assert interval.n_undefined == pytest.approx(4000 * (without_covid + all_covid), rel=0.1)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)


@pytest.mark.parametrize("statistic", [CASE_STATISTICS["auc"], slow("auc")])
def test_a_metric_undefined_in_all_resamples_has_no_interval(statistic):
    frame = pd.DataFrame({"patient_id": list("abb"), "label": [1, 1, 1], "probability": [0.9, 0.2, 0.4]})
    for cases in (frame, frame.iloc[:0]):
        interval = bootstrap_interval(cases, statistic, resamples=30)
        assert all(math.isnan(number) for number in (interval.value, interval.low, interval.high))
        assert interval.n_undefined == 30


def test_a_difference_is_of_the_same_drawn_patients():
    frame = scans()
    better = frame.assign(dice=frame["dice"] + 0.125)
    difference = bootstrap_difference(better, frame, mean_of("dice"), resamples=200)
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.125, 0.125, 0.125))
    swapped = bootstrap_difference(frame, better, mean_of("dice"), resamples=200)
    assert swapped.value == -difference.value


def test_systems_with_different_cases_are_not_compared():
    frame = scans().assign(case_id=lambda own: [f"scan_{number}" for number in range(len(own))])
    shuffled = frame.assign(case_id=frame["case_id"].to_numpy()[::-1])
    with pytest.raises(ValueError, match=r"differ in case_id. Expected the same cases in the same order"):
        bootstrap_difference(frame, shuffled, mean_of("dice"))
    with pytest.raises(ValueError, match="differ in patient_id"):
        bootstrap_difference(frame.drop(columns="case_id"), frame.iloc[1:].drop(columns="case_id"), mean_of("dice"))
    with pytest.raises(ValueError, match=r"systems have \d+ and \d+ cases"):
        bootstrap_difference(frame[["dice"]], frame[["dice"]].iloc[1:], mean_of("dice"), groups=None)


def test_cases_without_a_patient_are_refused_with_their_number():
    frame = scans(5).assign(patient_id=lambda own: own["patient_id"].where(own.index > 1, ""))
    with pytest.raises(ValueError, match=r"2 of \d+ cases have no patient_id. Fill in the column, or"):
        bootstrap_interval(frame, mean_of("dice"))


def test_a_missing_column_and_an_empty_draw_are_refused():
    with pytest.raises(ValueError, match=r"no column site. Expected one of patient_id, label"):
        bootstrap_interval(scans(5), mean_of("dice"), groups="site")
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap_interval(scans(5), mean_of("dice"), resamples=0)
    with pytest.raises(ValueError, match="level is 95"):
        bootstrap_interval(scans(5), mean_of("dice"), level=95)
