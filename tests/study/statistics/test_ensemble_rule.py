import math

import numpy as np
import pytest
import torch
from custom_components.networks.dual_sampling import branch_weight
from custom_components.study.statistics.ensemble_rule import (
    HIGH_THRESHOLDS,
    LOW_THRESHOLDS,
    PAPER_THRESHOLDS,
    PAPER_WEIGHTS,
    EnsembleRule,
    search_ensemble,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.reference.ensemble_search import auc_of_each_rule
from tests.yardstick import yardsticks

PROBABILITIES = st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 1.0])
RATIOS = st.sampled_from([0.0, 0.0009, 0.001, 0.01, 0.03, 0.031, 0.5])
CASES = st.lists(st.tuples(st.integers(0, 1), PROBABILITIES, PROBABILITIES, RATIOS), min_size=2, max_size=10).filter(
    lambda cases: len({case[0] for case in cases}) == 2
)
GRID = {"weights": [0.0, 0.25, 0.5, 1.0], "low_thresholds": [0.0, 0.001, 0.03], "high_thresholds": [0.01, 0.03, 1.0]}


def columns(cases):
    return [np.array(column, dtype=float) for column in zip(*cases, strict=True)]


def drawn(num_cases, seed=0):
    """Labels, both branches and ratios of scans of which neither branch is perfect."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_cases)
    branches = [1 / (1 + np.exp(1 - 2 * labels - generator.normal(size=num_cases) * sd)) for sd in (1.4, 1.6)]
    return labels, *branches, np.exp(generator.normal(-5, 2, num_cases)).clip(0, 1)


def planted(num_cases, w_outside, w_inside, low, high):
    """Branches whose ensemble with one rule alone puts all COVID-19 above all CAP, by a hair."""
    generator = np.random.default_rng(1)
    labels = generator.permutation(np.arange(num_cases) % 2)
    ratios = generator.choice([*LOW_THRESHOLDS[1:], *HIGH_THRESHOLDS[:-1], 0.0001, 0.0007, 0.007, 0.04, 0.4], num_cases)
    weight = np.where((ratios < low) | (ratios > high), w_outside, w_inside)
    final = 0.5 + 0.001 * (labels - 0.5)
    spread = generator.choice([-0.2, 0.2], num_cases)
    return labels, final + (1 - weight) * spread, final - weight * spread, ratios


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_the_search_finds_the_best_of_all_rules(cases):
    rule = search_ensemble(*columns(cases), **GRID)
    every = auc_of_each_rule(cases, *GRID.values())
    assert rule.auc == pytest.approx(max(every.values()), abs=1e-12)
    assert every[rule.w_outside, rule.w_inside, rule.low, rule.high] == pytest.approx(rule.auc, abs=1e-12)
    assert (rule.n, rule.n_left_out) == (len(cases), 0)


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_among_equal_rules_the_one_closest_to_the_papers_is_selected(cases):
    rule = search_ensemble(*columns(cases), **GRID)
    every = auc_of_each_rule(cases, *GRID.values())
    best = max(every.values())

    def distances(own):
        pairs = (own[2:], PAPER_THRESHOLDS), (own[:2], PAPER_WEIGHTS)
        return [round(sum(abs(a - b) for a, b in zip(*pair, strict=True)), 9) for pair in pairs]

    taken = distances((rule.w_outside, rule.w_inside, rule.low, rule.high))
    assert taken == min(distances(own) for own, auc in every.items() if auc > best - 1e-12)


@given(CASES, st.permutations(range(10)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_cases_has_no_effect(cases, order):
    shuffled = [cases[place] for place in order if place < len(cases)]
    assert search_ensemble(*columns(shuffled), **GRID) == search_ensemble(*columns(cases), **GRID)


@pytest.mark.parametrize("rule", [(0.35, 0.96, 0.001, 0.030), (0.80, 0.12, 0.002, 0.050), (0.07, 0.55, 0.0005, 0.100)])
def test_a_planted_rule_is_found_again(rule):
    found = search_ensemble(*planted(240, *rule))
    assert found.auc == 1
    assert (found.w_outside, found.w_inside, found.low, found.high) == rule


def test_the_auc_is_that_of_the_applied_rule():
    labels, p_us, p_ss, ratios = drawn(300)
    rule = search_ensemble(labels, p_us, p_ss, ratios)
    assert rule.auc == pytest.approx(roc_auc_score(labels, rule.apply(p_us, p_ss, ratios)), abs=1e-12)
    assert rule.auc > max(roc_auc_score(labels, p_us), roc_auc_score(labels, p_ss))


def test_equal_branches_give_the_papers_thresholds():
    labels, p_us, _, ratios = drawn(80)
    rule = search_ensemble(labels, p_us, p_us, ratios)
    assert (rule.low, rule.high) == PAPER_THRESHOLDS
    assert rule.auc == pytest.approx(roc_auc_score(labels, p_us), abs=0.01)


def test_one_weight_for_all_scans_is_tried():
    labels, p_us, p_ss, ratios = drawn(60)
    alone = search_ensemble(labels, p_us, p_ss, ratios, weights=[1.0])
    assert alone.auc == pytest.approx(roc_auc_score(labels, p_us), abs=1e-12)


def test_scans_of_unknown_ratio_or_probability_are_left_out_and_counted():
    labels, p_us, p_ss, ratios = drawn(50)
    whole = search_ensemble(labels, p_us, p_ss, ratios, **GRID)
    unknown = [1, 0, 1], [0.1, 0.9, math.nan], [0.1, math.nan, 0.1], [math.nan, 0.01, 0.01]
    longer = [np.concatenate(pair) for pair in zip((labels, p_us, p_ss, ratios), unknown, strict=True)]
    rule = search_ensemble(*longer, **GRID)
    assert (rule.n, rule.n_left_out) == (50, 3)
    assert EnsembleRule(**{**vars(rule), "n_left_out": 0}) == whole


BORDERS = [0.0, 0.00099999, 0.001, 0.00100001, 0.002, 0.02999, 0.03, np.nextafter(0.03, 1), 0.0300001, 1.0, math.nan]


@pytest.mark.parametrize(("low", "high"), [(0.001, 0.030), (0.0, 1.0), (0.002, 0.002), (0.0005, 0.1)])
def test_a_ratio_on_a_threshold_is_weighted_as_in_the_network(low, high):
    rule = EnsembleRule(w_outside=0.35, w_inside=0.96, low=low, high=high, auc=1.0, n=1)
    ratios = [*BORDERS, low, high]
    weights = rule.apply(np.ones(len(ratios)), np.zeros(len(ratios)), ratios)
    network = branch_weight(torch.tensor(ratios, dtype=torch.float32), (0.35, 0.96), (low, high)).double().numpy()
    assert np.allclose(weights, network, atol=1e-7, equal_nan=True)
    assert np.isnan(weights).tolist() == np.isnan(ratios).tolist()


def test_a_ratio_on_a_threshold_is_searched_and_applied_on_the_same_side():
    """Only the scan at 0.030 has branches that disagree, and only w inside of 1 puts it right."""
    labels, p_us, p_ss = [1, 0, 1, 0], [0.9, 0.1, 0.9, 0.1], [0.9, 0.1, 0.05, 0.1]
    rule = search_ensemble(labels, p_us, p_ss, [0.5, 0.5, 0.030, 0.01], weights=[0.0, 1.0])
    assert rule.auc == 1
    assert (rule.w_inside, rule.low, rule.high) == (1.0, 0.001, 0.030)
    outside = search_ensemble(labels, p_us, p_ss, [0.01, 0.01, 0.0301, 0.5], weights=[0.0, 1.0])
    assert (outside.w_outside, outside.low, outside.high) == (1.0, 0.001, 0.030)


def test_thousands_of_scans_take_seconds():
    cases = drawn(3000)
    assert yardsticks(lambda: search_ensemble(*cases), repeats=1) < 30  # 10 in 2026
    assert search_ensemble(*drawn(300)).n == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 1, 1]}, "both classes, got 3 COVID-19 and 0 CAP cases with a known ratio"),
        ({"ratios": [math.nan, 0.1, math.nan]}, "both classes, got 0 COVID-19 and 1 CAP"),
        ({"p_us": [0.5, 0.5]}, r"shapes \(3,\), \(2,\).*one value of each per case"),
        ({"p_ss": [0.5, 2.5, 0.5]}, "probability is 2.5"),
        ({"labels": [1, 0, 3]}, "label is 3"),
        ({"weights": [0.5, 35]}, r"Weights are \[0.5, 35\]. Expected at least one, in \[0, 1\]"),
        ({"low_thresholds": [0.5], "high_thresholds": [0.1, 0.2]}, r"Lower thresholds are \[0.5\], upper ones"),
    ],
)
def test_invalid_search_data_are_refused(change, message):
    three = {"labels": [1, 0, 1], "p_us": [0.5] * 3, "p_ss": [0.5] * 3, "ratios": [0.1] * 3}
    with pytest.raises(ValueError, match=message):
        search_ensemble(**{**three, **change})
