"""Scores of several sites are those of their cases in one place."""

import math

import numpy as np
import pytest
import torch
from custom_components.federated.scores import POOLED, pooled_score, site_score_table
from custom_components.metrics.lesion_scores import LesionScores
from custom_components.study.tables.table_files import markdown
from monai.metrics import DiceMetric
from sklearn.metrics import roc_auc_score


def site(kind, values, patients=None):
    rows = np.asarray(values, dtype=float).tolist()
    return {"kind": kind, "values": rows, "patients": patients or list(range(len(rows)))}


def test_pooled_auc_is_scikit_learns_of_all_cases_and_not_a_mean_of_the_sites():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=40), generator.integers(0, 2, 40)
    logits[20:] += 5  # a scanner with higher scores
    rows = np.stack([logits, labels], axis=1)
    parts = [site("auc", rows[:20]), site("auc", rows[20:])]
    assert pooled_score(parts) == pytest.approx(roc_auc_score(labels, logits))
    assert pooled_score(parts) != pytest.approx(np.mean([pooled_score([part]) for part in parts]), abs=0.01)


def test_pooled_auc_of_three_classes_is_scikit_learns():
    generator = np.random.default_rng(1)
    scores, labels = generator.dirichlet(np.ones(3), size=30), np.eye(3)[generator.integers(0, 3, 30)]
    parts = [site("auc", np.hstack([scores, labels])[part]) for part in (slice(0, 7), slice(7, None))]
    assert pooled_score(parts) == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


def test_pooled_lesion_dice_is_that_of_one_evaluation_of_all_cases():
    generator = torch.Generator().manual_seed(0)
    predicted, truth = (torch.randint(0, 4, (6, 1, 5, 7), generator=generator) for _ in range(2))
    truth[:2][truth[:2] == 3] = 0  # the first site has no effusion
    whole = LesionScores()
    whole(predicted, truth)
    parts = []
    for own in (slice(0, 2), slice(2, 6)):
        scores = LesionScores()
        scores(predicted[own], truth[own])
        parts.append(site("lesion_dice", scores.get_buffer().flatten(1)))
    assert pooled_score(parts) == pytest.approx(whole.aggregate().item())


def test_pooled_mask_dice_is_that_of_one_evaluation_of_all_cases():
    generator = torch.Generator().manual_seed(0)
    predicted, truth = (torch.randint(0, 2, (5, 2, 4, 6), generator=generator) for _ in range(2))
    truth[0, 1] = 0  # a scan without infection is left out of that mean
    whole = DiceMetric()
    whole(predicted, truth)
    values = whole.get_buffer().clone()
    parts = [site("mask_dice", values[:2]), site("mask_dice", values[2:])]
    assert pooled_score(parts) == pytest.approx(whole.aggregate().item())


def test_one_class_alone_or_nothing_has_no_score_but_helps_the_others():
    covid, cap = site("auc", [[1.0, 1], [2.0, 1]]), site("auc", [[0.0, 0], [1.5, 0]])
    assert math.isnan(pooled_score([covid]))
    assert math.isnan(pooled_score([]))
    assert pooled_score([covid, cap]) == 0.75


def test_scores_of_different_kinds_are_an_error():
    with pytest.raises(ValueError, match=r"different kinds: auc, mask_dice"):
        pooled_score([site("auc", [[1.0, 1]]), site("mask_dice", [[0.5, 0.5]])])


def test_the_table_has_each_site_and_all_with_intervals_by_patient():
    covid = site("auc", [[1.0, 1], [2.0, 1], [3.0, 1]], patients=[0, 0, 1])
    both = site("auc", [[0.0, 0], [1.5, 0], [2.5, 1], [0.5, 1]])
    table = site_score_table({"north": covid, "south": both}, "Best model.")
    assert list(table.frame.index) == ["north", "south", POOLED]
    assert table.frame.loc[POOLED, "cases"] == 7
    assert table.frame.loc["north", "patients"] == 2
    cell = table.frame.loc[POOLED, "AUC"]
    assert cell.low <= cell.value
    assert cell.value == pytest.approx(0.8)
    assert cell.value <= cell.high
    assert "\N{EN DASH} (n = 3)" in markdown(table)  # one class has no AUC
