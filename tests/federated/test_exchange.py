"""All that leaves a site, searched for what must not."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from custom_components.federated.exchange import (
    COUNT,
    FAILED,
    FINISH,
    NOT_FINITE,
    PART,
    PROBLEM,
    SCORE,
    SCORES,
    TRAIN,
    SiteAnswer,
    answer,
)
from PIL import Image

from tests.federated.conftest import CAP
from tests.federated.test_site import weights_of

SCORE_OF_BEST = {"score_of_best": {"name": "score", "value": 0.5, "epoch": 1}}


def answers_of(site):
    weights = weights_of(site)
    steps = {COUNT: {}, TRAIN: {}, SCORE: {}, FINISH: SCORE_OF_BEST}
    return {step: answer(site, step, weights, facts, 0) for step, facts in steps.items()}


def leaves(value):
    """All plain values and keys in nested facts."""
    if isinstance(value, dict):
        return [*value, *(leaf for one in value.values() for leaf in leaves(one))]
    if isinstance(value, list | tuple):
        return [leaf for one in value for leaf in leaves(one)]
    return [value]


@pytest.mark.parametrize("kind", ["slices", "scans"])
def test_nothing_that_leaves_a_site_has_a_name_a_path_an_identifier_or_an_image(kind, slices, scans, make_site):
    data, bundle = (slices["north"], "covid_seg_bundle") if kind == "slices" else (scans, CAP)
    site = make_site(data, bundle)
    cases = json.loads((data / "datalist.json").read_text(encoding="utf-8"))["cases"]
    secrets = {str(data), str(site.folder), data.name}
    for case in cases:
        secrets |= {
            str(case[key]) for key in ("case_id", "patient_id", "group", "image", "lung", "label") if key in case
        }
    secrets -= {"covid", "cap", "covid_small", "covid_large", "cap_small", "cap_large"}  # names of the groups
    names = set(weights_of(site))
    shapes = {tuple(value.shape) for value in weights_of(site).values()}
    for step, found in answers_of(site).items():
        texts = [str(leaf) for leaf in leaves(found.facts) if not isinstance(leaf, int | float)]
        for text in texts:
            assert not any(secret in text for secret in secrets), (step, text)
            assert not re.search(r"[/\\]|\d+\.\d+\.\d+\.\d+|[0-9a-f]{16}", text), (step, text)
        assert set(found.weights or {}) <= names
        assert all(tuple(value.shape) in shapes for value in (found.weights or {}).values())  # and so no image
        assert set(found.facts) <= {"counts", SCORES, PART}


def test_the_scores_of_a_case_are_few_numbers_and_patients_are_codes(scans, make_site):
    scores = answers_of(make_site(scans, CAP))[SCORE].facts[SCORES]
    assert set(scores) == {"kind", "values", "patients"}
    assert all(len(row) == 2 for row in scores["values"])
    assert set(scores["patients"]) == set(range(len(set(scores["patients"]))))


def test_an_error_is_told_in_fixed_words_and_in_full_only_in_the_sites_log(slices, make_site, tmp_path, caplog):
    data = shutil.copytree(slices["north"], tmp_path / "data")
    for image in sorted((data / "masks").glob("*.png")):
        Image.fromarray(np.full((32, 32), 77, np.uint8)).save(image)
    found = answer(make_site(data), TRAIN, weights_of(make_site(data)), {}, 0)
    assert found == SiteAnswer(facts={PROBLEM: FAILED})
    assert "Case 00" in caplog.text


def test_a_site_whose_training_diverges_says_so_and_can_take_part_again(slices, make_site):
    site = make_site(slices["north"])
    weights = weights_of(site)
    for group in make_rate(site, 1e30):
        assert group["lr"] == 1e30
    assert answer(site, TRAIN, weights, {}, 0).facts == {PROBLEM: NOT_FINITE}
    make_rate(site, 0.001)
    later = answer(site, TRAIN, weights, {}, 1)
    assert PROBLEM not in later.facts
    assert all(torch.isfinite(value).all() for value in later.weights.values())


def make_rate(site, rate):
    site.start()
    optimizer = site._algo.trainer.optimizer
    optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] = rate
    site._algo.train_workflow.parser.get_parsed_content("lr_scheduler").base_lrs[:] = [rate]
    return optimizer.param_groups


def test_a_site_without_data_for_training_answers(slices, make_site, tmp_path):
    site = make_site(tmp_path / "nothing")
    assert answer(site, COUNT, weights_of(make_site(slices["north"])), {}, 0).facts == {PROBLEM: FAILED}
