import math

import numpy as np
import pytest
import torch
from custom_components.infection_size import RATIO_BANDS, ratio_band, size_group
from custom_components.metrics.classification_scores import (
    attention_overlap,
    classification_scores,
    summarize_classification,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.classification_scores import counted_scores, pairwise_auc, voxelwise_dice

TIES = st.sampled_from([0.0, 0.2, 0.49, 0.5, 0.51, 0.8, 1.0])  # few values: ties and the threshold itself are met
CASES = st.lists(st.tuples(st.integers(0, 1), TIES), max_size=25)
SCORES = ["auc", "accuracy", "sensitivity", "specificity", "macro_f1"]


def counts_to_cases(true_positive, false_negative, true_negative, false_positive):
    labels = [1] * (true_positive + false_negative) + [0] * (true_negative + false_positive)
    return labels, [0.9] * true_positive + [0.1] * (false_negative + true_negative) + [0.9] * false_positive


def row(label, probability, ratio, **more):
    group, band = None if math.isnan(ratio) else size_group(label, ratio), ratio_band(ratio) or None
    name = ("cap", "covid")[label]
    return {"label": name, "probability": probability, "ratio_band": band, "size_group": group, **more}


@given(CASES, TIES)
@settings(max_examples=60, deadline=None)
def test_scores_equal_a_count_case_by_case(cases, threshold):
    labels, probabilities = [label for label, _ in cases], [p for _, p in cases]
    scores = classification_scores(labels, probabilities, threshold)
    expected = {**counted_scores(labels, probabilities, threshold), "auc": pairwise_auc(labels, probabilities)}
    for name in SCORES:
        assert scores[name] == (None if expected[name] is None else pytest.approx(expected[name])), name
    assert (scores["n"], scores["n_covid"], scores["n_cap"]) == (len(cases), sum(labels), len(cases) - sum(labels))


@given(CASES)
@settings(max_examples=30, deadline=None)
def test_exchanging_the_classes_exchanges_sensitivity_and_specificity(cases):
    labels, probabilities = np.array([c[0] for c in cases], int), np.array([c[1] for c in cases]) * 0.9 + 0.01
    scores = classification_scores(labels, probabilities)
    mirrored = classification_scores(1 - labels, 1 - probabilities)
    exchanged = {"sensitivity": "specificity", "specificity": "sensitivity"}
    assert all(mirrored[name] == pytest.approx(scores[exchanged.get(name, name)]) for name in SCORES)


def test_the_papers_f1_is_the_mean_over_both_classes():
    labels, probabilities = counts_to_cases(1994, 2295 - 1994, 451, 501 - 451)
    scores = classification_scores(labels, probabilities)
    assert round(scores["sensitivity"], 3) == 0.869
    assert scores["specificity"] == pytest.approx(0.901, abs=0.001)
    assert scores["macro_f1"] == pytest.approx((0.919 + 0.720) / 2, abs=0.001)


def test_tensors_and_arrays_are_scored_alike():
    labels, probabilities = [1, 0, 1, 0, 0], [0.7, 0.6, 0.2, 0.1, 0.5]
    scores = classification_scores(torch.tensor(labels), torch.tensor(probabilities, requires_grad=True))
    assert scores == classification_scores(np.array(labels), np.array(probabilities))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 0, 1], [0.5, 0.5]), r"\(3,\) and \(2,\).*one label and one probability"),
        (([1, 2], [0.5, 0.5]), r"label is 2. Expected 1 \(COVID-19\) or 0 \(CAP\)"),
        (([1, 0], [0.5, 1.5]), r"probability is 1.5.*sigmoid"),
        (([1, 0], [0.5, math.nan]), "probability is nan"),
        (([1, 0], [0.5, 0.5], 50), "threshold is 50"),
    ],
)
def test_invalid_arguments_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        classification_scores(*arguments)


@given(st.lists(st.tuples(TIES, st.integers(0, 1)), min_size=1, max_size=20), st.floats(0.01, 1))
@settings(max_examples=40)
def test_the_overlap_is_the_dice_counted_voxel_by_voxel(voxels, level):
    attention, mask = [a for a, _ in voxels], [m for _, m in voxels]
    overlap = attention_overlap(attention, mask, level)
    assert math.isnan(overlap) if not any(mask) else overlap == voxelwise_dice(attention, mask, level)


def test_attention_at_the_papers_beta_counts_as_attended():
    attention = torch.sigmoid(100 * (torch.tensor([[[0.39, 0.40, 0.41]]]) - 0.4))
    assert attention_overlap(attention, torch.tensor([[[0, 1, 1]]])) == 1


def test_attention_on_another_grid_is_rejected():
    with pytest.raises(ValueError, match=r"one grid, got \(2, 3\) and \(3, 2\)"):
        attention_overlap(np.zeros((2, 3)), np.ones((3, 2)))


def test_a_summary_computed_by_hand():
    rows = [
        row(1, 0.9, 0.200, p_us=0.4, attention_dice=0.8),
        row(1, 0.2, 0.010, p_us=0.9, attention_dice=0.4),
        row(1, 0.7, 0.004, p_us=0.9, attention_dice=None),
        row(0, 0.6, 0.040, p_us=0.1),
        row(0, 0.1, 0.0005, p_us=0.1),
        row(0, None, math.nan, p_us=0.8),
    ]
    summary = summarize_classification(rows)
    assert (summary["cases"], summary["cases_without_probability"], summary["cases_without_ratio"]) == (6, 1, 1)
    assert (summary["overall"]["n"], summary["overall"]["accuracy"]) == (5, pytest.approx(3 / 5))
    assert summary["overall"]["auc"] == pytest.approx(5 / 6)
    assert summary["by_ratio"]["< 0.005"] == pytest.approx(classification_scores([1, 0], [0.7, 0.1]))
    assert summary["by_ratio"]["0.005 - 0.030"]["sensitivity"] == 0
    assert summary["by_ratio"]["0.005 - 0.030"]["specificity"] is None
    assert summary["by_ratio"]["> 0.030"]["specificity"] == 0
    assert summary["by_size_group"]["covid_small"]["sensitivity"] == 0.5
    assert summary["by_size_group"]["cap_large"]["n_cap"] == 1
    assert summary["attention_dice"] == {"mean": pytest.approx(0.6), "n": 2}
    assert list(summary["branches"]) == ["p_us"]
    assert summary["branches"]["p_us"]["overall"]["n"] == 6
    assert summary["branches"]["p_us"]["overall"]["specificity"] == pytest.approx(2 / 3)


def test_a_set_without_cases_has_counts_and_no_scores():
    summary = summarize_classification([])
    assert summary["cases"] == 0
    assert set(summary["by_ratio"]) == set(RATIO_BANDS)
    assert summary["overall"]["n"] == 0
    assert all(summary["overall"][name] is None for name in SCORES)
    assert summary["attention_dice"] == {"mean": None, "n": 0}


def test_an_unknown_class_is_rejected():
    with pytest.raises(ValueError, match="label is normal"):
        summarize_classification([{"label": "normal", "probability": 0.5, "ratio_band": None, "size_group": None}])
