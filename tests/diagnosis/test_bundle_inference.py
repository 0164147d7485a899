"""A CT without masks through covid_cap_bundle's own inference.json: VB-Net there is optional."""

import json

import pytest
import torch
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.engines.root_cause import root_cause
from custom_components.networks.vbnet import VBNet

from tests.bundles.cap.conftest import BUNDLE, parser_of
from tests.bundles.conftest import as_without_card
from tests.diagnosis.conftest import PlantedMasks, write_nifti


@pytest.fixture
def infer(bundles, tmp_path):
    def call(image, **given):
        weights = bundles / "covid_cap_bundle" / "models" / "model.pt"
        out = tmp_path / "out"
        BUNDLE.run("inference.json", dataset_dir=image, output_dir=out, ckpt_path=weights, **given)
        name = image.name.removesuffix(".nii.gz")
        return json.loads((out / name / f"{name}_diagnosis.json").read_text(encoding="utf-8"))

    return call


@pytest.fixture
def segment_ckpt_path(tmp_path):
    torch.save(VBNet().state_dict(), tmp_path / "vbnet.pt")
    return tmp_path / "vbnet.pt"


def test_without_vbnet_the_ratio_stays_unknown(scan, infer, tmp_path):
    report = infer(write_nifti(scan, tmp_path / "a.nii.gz"))
    assert report["lung_source"] == "threshold and morphology (no model)"
    assert (report["p_final"], report["infection_volume_ml"]) == (None, None)


def test_with_vbnet_a_ct_alone_gives_what_diagnose_gives(
    scan, infer, tmp_path, segment_ckpt_path, monkeypatch, planted
):
    seen = []

    def segment(image, network, spacing_mm, window_hu, amp, patch_size):
        seen.append((type(network).__name__, list(spacing_mm), list(window_hu), amp, list(patch_size)))
        return PlantedMasks(scan)(image, network)

    monkeypatch.setattr("custom_components.transforms.lungs.segment_lungs.segment_lungs_and_infection", segment)
    image = write_nifti(scan, tmp_path / "a.nii.gz")
    report = infer(image, segment_ckpt_path=segment_ckpt_path)
    names = ("segment_spacing_mm", "segment_window_hu", "segment_patch_size")
    spacing_mm, window_hu, patch_size = (as_without_card(parser_of("inference.json")[name]) for name in names)
    assert seen == [("VBNet", spacing_mm, window_hu, False, patch_size)]
    assert report["lung_source"] == "VB-Net"
    assert report["ratio"] == pytest.approx(scan.infection_ratio, abs=1e-6)
    findings = Diagnosis(bundles_dir=planted(scan), lesion_classes=False)(ScanSource(image))
    for name in ("p_us", "p_ss", "p_final", "weight_us"):
        assert report[name] == pytest.approx(getattr(findings.scores, name), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("other.pt", "other.pt is of another architecture"),
        ("nowhere.pt", "nowhere.pt. VB-Net comes with this bundle: --segment_ckpt_path models/vbnet.pt"),
    ],
)
def test_weights_of_vbnet_that_do_not_fit_are_refused(scan, infer, tmp_path, name, told):
    torch.save(VBNet(features=(8, 16), convolutions=(1,)).state_dict(), tmp_path / "other.pt")
    image = write_nifti(scan, tmp_path / "a.nii.gz")
    with pytest.raises(RuntimeError) as caught:
        infer(image, segment_ckpt_path=tmp_path / name)
    assert told in root_cause(caught.value)


def test_the_numbers_of_vbnet_are_those_of_its_training():
    inference, training = parser_of("inference.json"), parser_of("segment_train.yaml")
    segment = dict(inference["segment_def"])
    assert segment.pop("_disabled_")
    assert segment == training["network_def"]
    for name in ("spacing_mm", "patch_size", "window_hu"):
        assert as_without_card(inference[f"segment_{name}"]) == training[name]
