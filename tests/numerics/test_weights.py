"""Weights that are no numbers, or of another network, in evaluation, inference and diagnosis."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from custom_components import VBNet
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.engines.root_cause import root_cause
from custom_components.transforms.checks.prediction import CheckPredictiond
from custom_components.transforms.lungs.segment_lungs import segment_lungs_and_infection
from monai.data import MetaTensor
from monai.utils import set_determinism

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import transforms_in
from tests.bundles.seg.conftest import BUNDLE as SEG
from tests.bundles.seg.conftest import SMALL as SMALL_SEG
from tests.ecosystem.small_bundle import small_bundle

# Config and what is run; that every config loads its weights alike: tests/security/test_malicious_weights.py.
RUNS = {"evaluation": ("evaluate.yaml", "evaluating"), "inference": ("inference.json", "run")}


def weights_of(name: str, path: Path, change: Any) -> Path:
    """State dict of the run's own network, changed."""
    parser = SEG.parser_of(RUNS[name][0])
    parser.update(SEG.small)
    state = change(parser.get_parsed_content("network_def").state_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def one_nan(state):
    first = next(iter(state))
    state[first].view(-1)[3] = math.nan
    return state


def too_large(state):
    """Finite weights whose products are not."""
    return {key: value * 1e14 if key.endswith("weight") and value.ndim > 1 else value for key, value in state.items()}


def message_of(name: str, tmp_path: Path, data: Path, change: Any) -> str:
    weights = weights_of(name, tmp_path / "model.pt", change)
    places = {"dataset_dir": data, "ckpt_path": weights, "output_dir": tmp_path / "out"}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        SEG.run(*RUNS[name], **places)
    set_determinism(None)
    return root_cause(caught.value)


@pytest.mark.parametrize("name", list(RUNS))
def test_weights_that_hold_nan_give_a_message_and_no_report(name, slices, tmp_path):
    message = message_of(name, tmp_path, slices, one_nan)
    pattern = (
        r"Checkpoint .*model.pt has NaN or infinite numbers in 1 \([\w.]+\) of \d+ tensors: its training "
        r"failed. Give another --ckpt_path, or train again."
    )
    assert re.search(pattern, message), message
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", list(RUNS))
def test_finite_weights_whose_output_is_not_finite_give_a_message_and_no_report(name, slices, tmp_path):
    message = message_of(name, tmp_path, slices, too_large)
    assert re.search(r"values of the network's output pred are NaN or infinite. Expected finite numbers", message), (
        message
    )
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("bundle", "small"), [(SEG, SMALL_SEG), (CAP, SMALL_CAP)])
def test_a_diagnosis_refuses_them_before_it_looks_at_a_scan(bundle, small, tmp_path):
    folder = tmp_path / bundle.folder.name
    small_bundle(bundle.folder, folder, small)
    weights = folder / "models" / "model.pt"
    torch.save(one_nan(torch.load(weights, weights_only=True)), weights)
    with pytest.raises(ValueError, match=r"model.pt has NaN or infinite numbers in 1 \("):
        BundleNetwork.load(folder, weights, "a network", "fp32")


def test_lungs_of_a_network_that_fails_are_not_taken_for_no_lungs(tmp_path):
    network = VBNet(features=(4, 8), convolutions=(1,), bottleneck_from=8)
    torch.nn.init.constant_(next(network.parameters()), math.nan)
    image = MetaTensor(torch.full((1, 20, 18, 16), -700.0), affine=torch.diag(torch.tensor([9.0, 9.0, 9.0, 1.0])))
    with pytest.raises(ValueError, match=r"of the network's output VB-Net are NaN or infinite"):
        segment_lungs_and_infection(image, network, (9.0, 9.0, 9.0), amp=False, patch_size=(16, 16, 16))


@pytest.mark.parametrize(
    ("bundle", "config", "key"),
    [
        (SEG, "train.yaml", "validate::postprocessing"),
        (SEG, "evaluate.yaml", "postprocessing"),
        (SEG, "inference.json", "postprocessing"),
        (CAP, "train.yaml", "validate::postprocessing"),
        (CAP, "evaluate.yaml", "postprocessing"),
        (CAP, "segment_train.yaml", "validate::postprocessing"),
        (CAP, "segment_evaluate.yaml", "postprocessing"),
    ],
)
def test_the_output_is_checked_before_anything_is_made_of_it(bundle, config, key):
    names = [step["_target_"] for step in transforms_in(bundle.parser_of(config), "@" + key.replace("::", "#"))]
    before = names[: names.index("custom_components.CheckPredictiond")]
    assert before in ([], ["FlattenSubKeysd"])


def test_an_output_passes_unchanged_and_one_that_is_missing_may_be_allowed():
    item = {"pred": torch.rand(2, 3), "case_id": "012"}
    assert CheckPredictiond(keys=["pred", "attention"], allow_missing_keys=True)(item) == item
    with pytest.raises(KeyError):
        CheckPredictiond(keys="attention")(item)
    with pytest.raises(ValueError, match=r"^Case 012: 2 of 6 values of the network's output pred are NaN or infinite"):
        CheckPredictiond(keys="pred")({**item, "pred": torch.tensor([1.0, math.nan, 2, math.inf, 3, 4])})
