import math

import numpy as np
import pandas as pd
import pytest
from custom_components.metrics.classification_scores import classification_scores
from custom_components.study.statistics.case_statistics import CASE_STATISTICS, mean_of, median_of, score_statistics
from hypothesis import given, settings
from hypothesis import strategies as st

PROBABILITIES = st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.51, 0.8, 1.0])
CASES = st.lists(st.tuples(st.integers(0, 1), PROBABILITIES, st.integers(0, 3)), max_size=25)


def table(cases):
    return pd.DataFrame({"label": [case[0] for case in cases], "probability": [case[1] for case in cases]})


def repeated(cases):
    return [case for case in cases for _ in range(case[2])]


@given(CASES, PROBABILITIES)
@settings(max_examples=80, deadline=None)
def test_statistics_equal_the_scores_of_the_evaluation(cases, threshold):
    frame = table(cases)
    expected = classification_scores(frame["label"], frame["probability"], threshold)
    for name, statistic in score_statistics(threshold).items():
        value = statistic(frame)
        assert math.isnan(value) if expected[name] is None else value == pytest.approx(expected[name]), name


@given(CASES)
@settings(max_examples=80, deadline=None)
def test_a_case_with_weight_three_counts_three_times(cases):
    weights = np.array([[case[2] for case in cases], [1] * len(cases)], dtype=int).reshape(2, len(cases))
    for name, statistic in CASE_STATISTICS.items():
        values = statistic.weighted(table(cases), weights)
        expected = [statistic(table(repeated(cases))), statistic(table(cases))]
        assert values == pytest.approx(expected, nan_ok=True), name


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.5, 0.7, 1.0, math.nan]), st.integers(0, 3)), max_size=12))
@settings(max_examples=80, deadline=None)
def test_a_median_is_that_of_the_repeated_known_values(cases):
    frame = pd.DataFrame({"auc": [value for value, _ in cases]}, dtype=float)
    weights = np.array([[count for _, count in cases], [1] * len(cases)], dtype=int).reshape(2, len(cases))
    for found, counts in zip(median_of("auc").weighted(frame, weights), weights, strict=True):
        known = [value for value, count in zip(frame["auc"], counts, strict=True) for _ in range(count)]
        known = [value for value in known if not math.isnan(value)]
        assert found == pytest.approx(np.median(known) if known else math.nan, nan_ok=True)


def test_a_mean_excludes_missing_values():
    frame = pd.DataFrame({"dice": [0.4, math.nan, 0.7]})
    weights = np.array([[1, 5, 1], [2, 0, 1], [0, 3, 0]])
    assert mean_of("dice").weighted(frame, weights) == pytest.approx([0.55, 0.5, math.nan], nan_ok=True)
