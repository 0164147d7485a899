"""The weights that come with covid_seg_bundle."""

import hashlib
import json

import pytest
from custom_components import ResidualAttentionUNet
from custom_components.engines.root_cause import root_cause
from custom_components.handlers.load_weights import LoadWeights
from custom_components.weights.model_card import network_arguments, read_card

from tests.bundles.conftest import ROOT, Bundle
from tests.real_data import real_data

BUNDLE = ROOT / "covid_seg_bundle"
WEIGHTS = BUNDLE / "models" / "model.pt"
LARGEST_BYTES = 25 * 10**6


def test_the_metadata_name_the_file_its_data_and_their_terms():
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert list(metadata["trained_on"]) == [digest]
    for name in ("CC BY-NC-SA 4.0", "CC BY-NC 3.0", "LCTSC", "MedSeg"):
        assert name in metadata["trained_on"][digest]
        assert name in (BUNDLE / "docs" / "data_license.txt").read_text(encoding="utf-8")


def test_the_file_is_small_and_of_the_network_that_its_card_names():
    assert WEIGHTS.stat().st_size < LARGEST_BYTES
    LoadWeights(WEIGHTS, ResidualAttentionUNet(**network_arguments(read_card(WEIGHTS))))()


@pytest.mark.real_data
def test_lesions_of_slices_it_was_trained_on_are_found(tmp_path):
    """Whole weights, and configs that prepare a slice as their training did; no score of what they are worth."""
    folder = real_data("medseg100")
    names = ("019", "034", "047", "066")
    cases = [
        {"image": str(folder / f"images/{name}.png"), "label": str(folder / f"masks/{name}.png")} for name in names
    ]
    (tmp_path / "datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    places = {"dataset_dir": tmp_path / "datalist.json", "output_dir": tmp_path / "eval"}
    given = {**places, "ckpt_path": WEIGHTS, "overlay_slices": 0}
    with pytest.raises(RuntimeError) as caught:
        Bundle(BUNDLE, {}).run("evaluate.yaml", "evaluating", **given)
    assert root_cause(caught.value).startswith(
        "4 of 4 cases were used in training, according to the weights' model.json"
    )
    Bundle(BUNDLE, {}).run("evaluate.yaml", "evaluating", **given, score_trained_cases=True)
    dice = json.loads((tmp_path / "eval/summary.json").read_text(encoding="utf-8"))["dice"]
    assert dice["ground_glass"] > 0.5
    assert dice["consolidation"] > 0.4
