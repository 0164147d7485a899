"""A bundle at one site: what it computes and what it refuses. Nothing here needs NVFlare."""

import json
import shutil

import pytest
import torch
from custom_components.data.size_balanced_sampler import SizeBalancedSampler
from custom_components.federated.site import check_weights
from custom_components.federated.site_settings import DATA_VARIABLE, SiteSettings
from custom_components.weights.model_card import read_card

from tests.federated.conftest import CAP, SIZE_BALANCED

CAP_COUNTS = {"covid_small": 20, "covid_large": 30, "cap_small": 25, "cap_large": 10}


def weights_of(site) -> dict[str, torch.Tensor]:
    """Weights of the site's network before any training."""
    torch.manual_seed(1)
    return dict(site._workflow().parser.get_parsed_content("network_def").state_dict())


def added(weights, difference):
    return {name: (value + difference[name]).to(value.dtype) for name, value in weights.items()}


def without_cap(data):
    """Only the scans with COVID-19 remain."""
    file = data / "datalist.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["cases"] = [case for case in content["cases"] if case["label"] == "covid"]
    file.write_text(json.dumps(content), encoding="utf-8")


def test_rounds_of_a_single_site_are_the_epochs_of_a_local_training(slices, make_site):
    federated, local = make_site(slices["north"]), make_site(slices["north"], folder="local")
    first = weights = weights_of(federated)
    for _ in range(2):
        difference, part = federated.train(weights)
        weights = added(weights, difference)
    local.settings = SiteSettings(**{**local.settings.__dict__, "local_epochs": 2})
    difference, _ = local.train(first)
    expected = added(first, difference)
    for name, value in expected.items():
        assert torch.allclose(weights[name], value, rtol=1e-4, atol=1e-6), name
    assert part == 6
    assert any((weights[name] != first[name]).any() for name in first)


def test_counts_are_numbers_of_cases(slices, scans, make_site):
    found = make_site(slices["south"]).counts()
    assert (found["training"], found["validation"], found["synthetic"], found["groups"]) == (8, 4, 8, None)
    scan_counts = make_site(scans, CAP).counts()
    assert sum(scan_counts["groups"].values()) == scan_counts["training"]


def test_a_site_without_one_disease_trains_with_the_groups_of_the_federation(scans, make_site, tmp_path):
    data = shutil.copytree(scans, tmp_path / "data")
    without_cap(data)
    site = make_site(data, CAP, SIZE_BALANCED)
    counts = site.counts()
    assert counts["groups"]["cap_small"] == counts["groups"]["cap_large"] == 0
    site.start(CAP_COUNTS)
    difference, part = site.train(weights_of(site))
    sampler = site._algo.trainer.data_loader.sampler
    assert isinstance(sampler, SizeBalancedSampler)
    assert sampler.group_counts == CAP_COUNTS
    assert part == pytest.approx(sampler.share * sum(CAP_COUNTS.values()))
    assert all(torch.isfinite(value).all() for value in difference.values())
    assert site.evaluate(weights_of(site))["kind"] == "auc"


def test_weights_have_the_names_of_model_pt_though_the_classifier_is_trained_in_a_wrapper(scans, make_site):
    site = make_site(scans, CAP)
    difference, _ = site.train(weights_of(site))
    assert set(difference) == set(weights_of(site))


def test_scores_are_those_of_the_bundles_own_validation(slices, make_site):
    from custom_components.federated.scores import pooled_score

    site = make_site(slices["north"])
    scores = site.evaluate(weights_of(site))
    assert pooled_score([scores]) == pytest.approx(float(site._algo.evaluator.state.metrics["val_mean_dice"]), abs=1e-6)
    assert scores["patients"] == [0, 0, 0]


def test_the_final_model_is_kept_with_a_card_of_the_sites_own_cases(slices, make_site, tmp_path):
    site = make_site(slices["north"])
    weights = weights_of(site)
    assert site.finish(weights, {"name": "val_mean_dice", "value": 0.5, "epoch": 3}) is None
    card = read_card(tmp_path / "site/model.pt")
    assert len(card["trained_on"]["digests"]) == 6
    assert card["score"]["epoch"] == 3
    saved = torch.load(tmp_path / "site/model.pt", weights_only=True)
    assert all((saved[name] == value).all() for name, value in weights.items())


def test_test_data_are_scored_and_not_trained_on(slices, make_site):
    site = make_site(slices["north"])
    site.settings = SiteSettings(**{**site.settings.__dict__, "test_dir": str(slices["south"])})
    weights = weights_of(site)
    scores = site.finish(weights, {"name": "val_mean_dice", "value": 0.5, "epoch": 3})
    assert len(scores["values"]) == 12
    assert site.counts()["training"] == 6


def test_a_restarted_site_continues_with_its_optimizer(slices, make_site):
    whole, first_part = make_site(slices["north"], folder="whole"), make_site(slices["north"], folder="killed")
    weights = weights_of(whole)
    for _ in range(2):
        difference, _ = whole.train(weights)
        weights = added(weights, difference)
    again = weights_of(first_part)
    again = added(again, first_part.train(again)[0])
    restarted = make_site(slices["north"], folder="killed")
    restarted.start(epochs_done=1)
    again = added(again, restarted.train(again)[0])
    for name, value in weights.items():
        assert torch.allclose(again[name], value, rtol=1e-4, atol=1e-6), name


def test_other_widths_are_named(slices, make_site):
    site, other = make_site(slices["north"]), make_site(slices["north"], **{"network_def#features": [16, 32]})
    with pytest.raises(ValueError, match=r"This site's network has .* Use the same configs"):
        site.check_network(weights_of(other))


def test_missing_weights_and_nan_are_named():
    expected = {"a": torch.zeros(2), "b": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"2 weights, 1 were received; 1 \(b\)"):
        check_weights({"a": torch.zeros(2)}, expected, "The network")
    with pytest.raises(ValueError, match=r"b of shape \(2, 3\), received was \(3, 3\)"):
        check_weights({"a": torch.zeros(2), "b": torch.zeros(3, 3)}, expected, "The network")
    with pytest.raises(ValueError, match=r"not finite were received in 1 \(a\)"):
        check_weights({"a": torch.tensor([0, torch.nan]), "b": torch.zeros(2, 3)}, expected, "The network")


def test_data_and_folder_come_from_the_environment_of_a_hospital(monkeypatch):
    text = json.dumps({"bundle": "covid_seg_bundle", "configs": ["train.yaml"], "site_dir": "/s"})
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="COVID_SITE_DATA is not set in the environment of this site"):
        SiteSettings.from_json(text)
    monkeypatch.setenv(DATA_VARIABLE, "/data")
    assert SiteSettings.from_json(text).dataset_dir == "/data"


def test_a_missing_config_is_named():
    with pytest.raises(ValueError, match=r"recipes/none.yaml is missing"):
        SiteSettings("covid_seg_bundle", ("train.yaml", "recipes/none.yaml")).config_files()
