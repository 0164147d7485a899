"""The server's files: a killed server resumes from them."""

import json

import numpy as np
import pytest
import torch
from custom_components.federated.record import BEST, NEWEST, FederationRecord
from custom_components.weights.model_card import all_synthetic, read_card, training_text

CARD = {"network": {"_target_": "torch.nn.Linear", "in_features": 2}, "settings": {"spatial_size": [32, 32]}}
COUNTS = {"training": 3, "validation": 2, "synthetic": 3, "groups": {"covid_small": 1, "cap_small": 2}, "version": "1"}
WEIGHTS = {"weight": np.arange(4, dtype=np.float32).reshape(2, 2), "steps": np.array(7)}


def started(folder):
    record = FederationRecord.read(folder)
    record.begin(CARD)
    record.sites = {"north": COUNTS, "south": {**COUNTS, "groups": {"covid_small": 4, "cap_small": 0, "normal": 1}}}
    return record


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = started(tmp_path)
    record.keep_newest(WEIGHTS, score=0.5, sites=["north"], left_out={"south": "no answer"})
    again = FederationRecord.read(tmp_path)
    assert again == record
    again.begin(CARD)
    for name, value in again.weights(NEWEST).items():
        assert (value == WEIGHTS[name]).all()
        assert value.dtype == WEIGHTS[name].dtype


def test_group_counts_are_the_sums_of_the_sites(tmp_path):
    record = started(tmp_path)
    assert record.group_counts == {"covid_small": 5, "cap_small": 2, "normal": 1}
    record.sites["east"] = {**COUNTS, "groups": None}
    assert record.group_counts is None


def test_the_card_counts_the_cases_of_the_sites_that_took_part_and_says_that_all_are_phantoms(tmp_path):
    record = started(tmp_path)
    record.sites["broken"] = {**COUNTS, "training": 100}
    record.keep_newest(WEIGHTS, score=0.1, sites=["north", "south"], left_out={"broken": "no answer"})
    record.keep_best(WEIGHTS, {"name": "val_auc", "value": 0.75, "round": 2})
    card = read_card(tmp_path / BEST)
    assert card["settings"] == CARD["settings"]
    assert all_synthetic(card)
    assert training_text(card) == (
        "6 synthetic cases (federated over 2 sites, a validation fold at each), val_auc 0.750 in epoch 2"
    )
    assert torch.load(tmp_path / BEST, weights_only=True)["steps"] == 7
    text = (tmp_path / "model.json").read_text(encoding="utf-8")
    assert "north" not in text  # what is published does not name the hospitals


def test_the_best_score_is_kept_over_a_restart_and_nan_never_wins(tmp_path):
    record = started(tmp_path)
    assert record.is_better(float("nan"))  # the first model, until one has a score
    record.keep_best(WEIGHTS, {"name": "val_auc", "value": float("nan"), "round": 0})
    assert record.is_better(0.2)
    record.keep_best(WEIGHTS, {"name": "val_auc", "value": 0.6, "round": 1})
    record.write()
    again = FederationRecord.read(tmp_path)
    assert [again.is_better(value) for value in (0.5, 0.6, 0.7, float("nan"))] == [False, False, True, False]


def test_another_network_in_the_same_folder_is_refused(tmp_path):
    started(tmp_path).keep_newest(WEIGHTS, score=0.5)
    with pytest.raises(ValueError, match=r"has a federation with other settings. Repeat its options to resume it"):
        FederationRecord.read(tmp_path).begin({**CARD, "settings": {"spatial_size": [64, 64]}})


def test_a_broken_record_is_named(tmp_path):
    (tmp_path / "rounds.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rounds.json cannot be read .* Remove it to start a new federation"):
        FederationRecord.read(tmp_path)
    (tmp_path / "rounds.json").write_text(json.dumps({"other": 1}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"rounds.json cannot be read"):
        FederationRecord.read(tmp_path)
