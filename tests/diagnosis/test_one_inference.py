"""`monai.bundle run` and `diagnose` use the same steps and settings and give the same voxels."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from custom_components.diagnosis.bundle_network import INFERENCE, BundleNetwork, BundleSteps, precision_settings
from custom_components.diagnosis.lesions import find_lesions
from custom_components.diagnosis.pipeline import SEGMENT_WEIGHTS, Diagnosis
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.transforms.lungs import segment_lungs

from tests.bundles.conftest import ROOT, Bundle
from tests.diagnosis.conftest import image_of, masks_of, set_knobs, write_nifti
from tests.real_data import real_data


def by_the_bundle(folder: Path, out: Path, lungs: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Lesions by the bundle's own inference for the only CT in `out/in/images`, with a lung mask file."""
    (image,) = (out / "in" / "images").iterdir()
    name = image.name.removesuffix(".nii.gz")
    (out / "in" / "lungs").mkdir()
    nib.save(nib.Nifti1Image((lungs > 0).astype(np.uint8), affine), out / "in" / "lungs" / f"{name}.nii.gz")
    Bundle(folder, {}).run("inference.json", dataset_dir=out / "in", output_dir=out / "out", progress=False)
    return np.asarray(nib.load(out / "out" / name / f"{name}_seg.nii.gz").dataobj)


@pytest.fixture(scope="module")
def lesions_both_ways(bundles, tmp_path_factory):
    """Lesions by the bundle's own inference and by `diagnose`, with changed config entries."""

    def call(phantom, **knobs):
        out = tmp_path_factory.mktemp("both")
        folder = shutil.copytree(bundles / "covid_seg_bundle", out / "covid_seg_bundle")
        set_knobs(folder, **knobs)
        path = write_nifti(phantom, out / "in" / "images" / "a.nii.gz")
        network = BundleNetwork.load(folder, folder / "models/model.pt", "lesions")
        found = find_lesions(ScanSource(path).image(), masks_of(phantom), network)
        return by_the_bundle(folder, out, phantom.lung, phantom.affine), found.lesions

    return call


@pytest.fixture(scope="module")
def wide(scan):
    """Air around the body; its first slices show little of it, and would be cropped more."""
    hu = scan.image_hu.copy()
    hu[..., 6:10] = -1000
    hu[30:60, 20:60, 6:10] = 40
    around = {"image_hu": -1000, "label": 0, "lung": 0}
    width = [(20, 30), (11, 19), (12, 13)]
    arrays = {"image_hu": hu, "label": scan.label, "lung": scan.lung}
    padded = {key: np.pad(array[..., 6:], width, constant_values=around[key]) for key, array in arrays.items()}
    return replace(scan, **padded)


@pytest.fixture(scope="module")
def as_shipped(wide, lesions_both_ways):
    return lesions_both_ways(wide)


def test_the_lesions_are_the_same_voxel_for_voxel(as_shipped):
    of_bundle, of_diagnose = as_shipped
    assert len(np.unique(of_bundle)) > 2
    assert np.array_equal(of_diagnose, of_bundle)


@pytest.mark.parametrize(
    "knobs",
    [
        {"within_lungs": False},
        {"smallest_lesion": 0.003},
        {"spatial_size": [40, 56]},
        {"window_hu": [-1000, 400]},
        {"body_crop": False},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_a_setting_of_the_segmentation_has_the_same_effect_in_both(wide, as_shipped, lesions_both_ways, knobs):
    of_bundle, of_diagnose = lesions_both_ways(wide, **knobs)
    assert (of_bundle != as_shipped[0]).any()
    assert np.array_equal(of_diagnose, of_bundle)


def test_slices_outside_the_crop_to_the_body_have_no_lesions(wide, bundles, lesions_both_ways):
    cropped = BundleSteps(bundles / "covid_seg_bundle").apply("to_body", {"image": image_of(wide)})["image"]
    assert all(kept < there for kept, there in zip(cropped.shape[1:], wide.image_hu.shape, strict=True))
    for lesions in lesions_both_ways(wide, within_lungs=False, smallest_lesion=0):
        assert lesions.any()
        assert not lesions[..., [0, -1]].any()


@pytest.fixture
def diagnosis_both_ways(scan, planted, tmp_path):
    """Report of the bundle's own inference and scores of `diagnose`; VB-Net returns the masks of the phantom."""

    def call(**knobs):
        bundles = planted(scan)
        folder = bundles / "covid_cap_bundle"
        set_knobs(folder, **knobs)
        image = write_nifti(scan, tmp_path / "a.nii.gz")
        given = {"dataset_dir": image, "output_dir": tmp_path / "out", "segment_ckpt_path": folder / SEGMENT_WEIGHTS}
        Bundle(folder, {}).run("inference.json", **given)
        report = json.loads((tmp_path / "out" / "a" / "a_diagnosis.json").read_text(encoding="utf-8"))
        return report, Diagnosis(bundles_dir=bundles, lesion_classes=False)(ScanSource(image)).scores

    return call


@pytest.mark.parametrize(
    ("knobs", "weight_us"),
    [({}, 0.35), ({"weights": [0.2, 0.9]}, 0.2), ({"ratio_thresholds": [0.1, 0.9]}, 0.96), ({"threshold": 0.9}, 0.35)],
    ids=lambda knobs: next(iter(knobs), "as shipped") if isinstance(knobs, dict) else "",
)
def test_a_setting_of_the_classifier_has_the_same_effect_in_both(scan, diagnosis_both_ways, knobs, weight_us):
    """The phantom's ratio is 0.2."""
    report, scores = diagnosis_both_ways(**knobs)
    assert report["lung_source"] == "VB-Net"
    assert report["ratio"] == pytest.approx(scan.infection_ratio, abs=1e-6)
    assert report["weight_us"] == scores.weight_us == pytest.approx(weight_us)
    for name in ("p_us", "p_ss", "p_final"):
        assert report[name] == pytest.approx(getattr(scores, name), abs=5e-5)
    assert scores.threshold == knobs.get("threshold", 0.5)


def test_settings_of_vbnet_have_an_effect_in_both(diagnosis_both_ways):
    knobs = {"segment_spacing_mm": [4, 5, 6], "segment_patch_size": [32, 48, 16], "segment_window_hu": [-900, 90]}
    diagnosis_both_ways(**knobs)
    expected = ((4, 5, 6), (-900, 90), False, (32, 48, 16))
    assert segment_lungs.segment_lungs_and_infection.settings == [expected, expected]


@pytest.mark.parametrize("bundle", ["covid_seg_bundle", "covid_cap_bundle"])
@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "auto", ("bfloat16", "auto")),
        ("cuda", "auto", ("float16", True)),
        ("cpu", "fp32", ("bfloat16", False)),
        ("cuda", "fp32", ("float16", False)),
        ("cpu", "bf16", ("bfloat16", True)),
        ("cuda", "bf16", ("bfloat16", True)),
    ],
)
def test_half_precision_is_set_by_the_config_for_both(bundle, device, precision, expected):
    """On a CPU that supports bfloat16, and on every GPU; no other config entry turns it on."""
    steps = BundleSteps(ROOT / bundle, device=device, **precision_settings(precision))
    assert (steps.get("half_type"), steps.get("use_half")) == expected
    assert "amp" not in json.loads((ROOT / bundle / INFERENCE).read_text(encoding="utf-8"))["evaluator"]


@pytest.mark.real_data
@pytest.mark.slow
def test_lesions_of_a_patient_are_the_same_voxel_for_voxel(tmp_path):
    dicom, seg = real_data("covid_ct_md", "P001"), ROOT / "covid_seg_bundle"
    findings = Diagnosis()(dicom)
    (tmp_path / "in" / "images").mkdir(parents=True)
    (tmp_path / "in" / "images" / "P001").symlink_to(dicom)
    of_bundle = by_the_bundle(seg, tmp_path, findings.lungs, findings.affine)
    assert np.count_nonzero(of_bundle) > 100_000
    assert np.array_equal(findings.lesions, of_bundle)
