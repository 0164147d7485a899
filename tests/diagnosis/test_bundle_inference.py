"""A CT without masks in the inference.json of covid_cap_bundle, where VB-Net is optional."""

import json

import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.networks.vbnet import VBNet

from tests.bundles.cap.conftest import BUNDLE, parser_of
from tests.bundles.conftest import as_without_card
from tests.diagnosis.conftest import write_nifti


@pytest.fixture
def infer(bundles, tmp_path):
    def call(image, **given):
        weights = bundles / "covid_cap_bundle" / "models" / "model.pt"
        out = tmp_path / "out"
        BUNDLE.run("inference.json", dataset_dir=image, output_dir=out, ckpt_path=weights, **given)
        name = image.name.removesuffix(".nii.gz")
        return json.loads((out / name / f"{name}_diagnosis.json").read_text(encoding="utf-8"))

    return call


def test_without_vbnet_the_ratio_is_unknown(scan, infer, tmp_path):
    report = infer(write_nifti(scan, tmp_path / "a.nii.gz"))
    assert report["lung_source"] == "threshold and morphology (no model)"
    assert (report["p_final"], report["infection_volume_ml"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.pt", "other.pt is of another architecture"),
        ("nowhere.pt", "nowhere.pt. VB-Net's weights come with this bundle as models/vbnet.pt: restore that file"),
    ],
)
def test_wrong_or_missing_weights_of_vbnet_are_an_error(scan, infer, tmp_path, name, message):
    torch.save(VBNet(features=(8, 16), convolutions=(1,)).state_dict(), tmp_path / "other.pt")
    image = write_nifti(scan, tmp_path / "a.nii.gz")
    with pytest.raises(RuntimeError) as caught:
        infer(image, segment_ckpt_path=tmp_path / name)
    assert message in root_cause(caught.value)


def test_inference_and_training_of_vbnet_have_the_same_settings():
    inference, training = parser_of("inference.json"), parser_of("segment_train.yaml")
    segment = dict(inference["segment_def"])
    assert segment.pop("_disabled_")
    assert segment == training["network_def"]
    for name in ("spacing_mm", "patch_size", "window_hu"):
        assert as_without_card(inference[f"segment_{name}"]) == training[name]
