import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.diagnosis.bundle_network import BundleNetwork, bundle_folder, describe_model, find_bundle
from custom_components.diagnosis.classification import classify
from custom_components.diagnosis.kept_results import KeptResults, StageClock
from custom_components.diagnosis.lesions import find_lesions
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.diagnosis.pipeline import NO_RATIO, Diagnosis, read_image
from custom_components.diagnosis.scan_files import read_volume
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.diagnosis.weight_files import Weights
from custom_components.images.ct_reader import CTReader
from custom_components.networks.vbnet import VBNet
from custom_components.phantom import make_scan
from custom_components.reports.scan.description import describe_scan
from custom_components.transforms.lesions_in_lungs import lesions_in_lungs
from custom_components.transforms.lungs.left_right import left_right_lungs
from custom_components.weights.model_card import SYNTHETIC_ONLY, data_facts, write_card
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import image_of, masks_of, write_nifti

STEP = 1 / 255  # of the values of a written map


@pytest.fixture(scope="module")
def classifier(bundles):
    folder = bundles / "covid_cap_bundle"
    return BundleNetwork.load(folder, folder / "models/model.pt", "classifier")


@pytest.fixture(scope="module")
def lesion_network(bundles):
    folder = bundles / "covid_seg_bundle"
    return BundleNetwork.load(folder, folder / "models/model.pt", "lesions")


def test_scores_and_attention_are_those_of_the_bundle_with_these_masks(scan, bundles, classifier, tmp_path):
    """Compared with the bundle's own inference, which reads CT and masks from files."""
    data, out = tmp_path / "data", tmp_path / "out"
    image = write_nifti(scan, data / "images" / "a.nii.gz")
    for kind, mask in (("lung", scan.lung), ("infection", scan.infection * scan.lung)):
        (data / f"{kind}s").mkdir()
        nib.save(nib.Nifti1Image(mask, scan.affine), data / f"{kind}s" / "a.nii.gz")
    weights = bundles / "covid_cap_bundle" / "models" / "model.pt"
    CAP.run("inference.json", dataset_dir=data, output_dir=out, ckpt_path=weights)
    report = json.loads((out / "a" / "a_diagnosis.json").read_text(encoding="utf-8"))
    ct = ScanSource(image).image()
    ratio = float(masks_of(scan).vbnet_infection.sum()) / float(scan.lung.sum())
    found = classify(ct, masks_of(scan), ratio, classifier, "a", StageClock())
    for name in ("p_us", "p_ss", "p_final", "weight_us"):
        assert getattr(found.scores, name) == pytest.approx(report[name], abs=1e-4)
    assert found.scores.threshold == 0.5
    for name in ("attention_us", "attention_ss"):
        written = np.asarray(nib.load(out / "a" / f"a_{name}.nii.gz").dataobj)
        assert np.abs(getattr(found, name) - written).max() < STEP


def test_without_ratio_there_are_the_probabilities_of_both_branches_and_no_final_one(scan, classifier):
    found = classify(image_of(scan), masks_of(scan), math.nan, classifier, "a", StageClock())
    assert 0 < found.scores.p_us < 1
    assert 0 < found.scores.p_ss < 1
    assert (found.scores.p_final, found.scores.weight_us) == (None, None)


class WholeVolume:
    """Replaces the steps of a bundle: the body is the whole volume, and lesions are limited to the lungs."""

    def get(self, name):
        assert name == "within_lungs"
        return True

    def apply(self, step, item):
        if step != "clean_up":
            return dict(item)
        lesions, lungs = (np.asarray(item[key][0]) for key in ("pred", "lung"))
        limited = lesions_in_lungs(lesions, lungs, item["native"].affine.numpy())
        return {**item, "pred": torch.from_numpy(limited)[None]}


@given(st.integers(0, 10**6), st.sampled_from([0.7, 5.0]), st.sampled_from([0.02, 0.06, 0.2]))
def test_lesions_outside_the_searched_slices_would_be_removed_anyway(seed, step_mm, share):
    """An effusion may continue through slices without lung; most slices need no search."""
    random = np.random.default_rng(seed)
    lesions = np.where(random.random((6, 5, 60)) < share, 3, random.integers(0, 3, (6, 5, 60))).astype(np.uint8)
    lungs = np.zeros(lesions.shape, np.uint8)
    lungs[2, 2, random.choice(60, 2)] = 1
    image = MetaTensor(torch.zeros(1, *lesions.shape), affine=torch.diag(torch.tensor([-3.0, -4.0, step_mm, 1.0])))

    def search(item, places, bundle, found, mirror=False):
        assert not found[..., places].any()
        found[..., places] = torch.from_numpy(lesions[..., places])[None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.diagnosis.lesions._search", search)
        found = find_lesions(image, LungMasks(lungs, "planted"), SimpleNamespace(steps=WholeVolume()))
    assert np.array_equal(found.lesions, lesions_in_lungs(lesions, lungs, image.affine.numpy()))
    assert len(found.slices) < 60 or share > 0.02


class FirstRows:
    """Replaces a bundle whose network marks what is bright in the first four rows of what it is shown."""

    steps = WholeVolume()

    def __init__(self):
        self.shown = []

    def predict(self, item):
        image = item["image"].as_tensor()
        self.shown.append(image.amax((0, 1, 2)).tolist())
        return {**item, "pred": (image * (torch.arange(image.shape[1]) < 4)[:, None, None] > 0).to(torch.uint8)}


def test_mirror_images_of_some_infected_slices_are_compared_in_the_lungs():
    """Rows 0, 2, 3 are marked; mirrored, the network sees rows 2 to 5. Row 0 is no lung."""
    image, lungs, network = np.zeros((6, 5, 40), np.float32), np.ones((6, 5, 40), np.uint8), FirstRows()
    image[[0, 2, 3, 4], 1, 3:33] = np.arange(3, 33)
    lungs[0] = 0
    ct = MetaTensor(torch.from_numpy(image)[None], affine=torch.diag(torch.tensor([-3.0, -4.0, 5.0, 1.0])))
    found = find_lesions(ct, LungMasks(lungs, "planted"), network)
    assert network.shown[-1] == [3, 7, 11, 15, 20, 24, 28, 32]
    assert (found.mirror_slices, found.mirror_dice) == (8, 2 * 2 / (2 + 3))


def test_without_infection_nothing_is_mirrored():
    ct = MetaTensor(torch.zeros(1, 6, 5, 40), affine=torch.diag(torch.tensor([-3.0, -4.0, 5.0, 1.0])))
    found = find_lesions(ct, LungMasks(np.ones((6, 5, 40), np.uint8), "planted"), FirstRows())
    assert (found.mirror_slices, found.mirror_dice) == (0, None)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_the_lesions(scan, lesion_network, threads):
    image, masks = image_of(scan), masks_of(scan)
    expected, before = find_lesions(image, masks, lesion_network), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert np.array_equal(find_lesions(image, masks, lesion_network).lesions, expected.lesions)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_lesions_do_not_depend_on_the_storage_orientation(scan, lesion_network):
    """Sagittal slices in the file: the head-feet axis is the second one and runs to the feet."""
    there = np.array([[2, 1], [0, 1], [1, -1]])
    affine = scan.affine @ nib.orientations.inv_ornt_aff(there, scan.image_hu.shape)
    assert nib.aff2axcodes(affine)[1] == "I"
    turned = np.ascontiguousarray(nib.apply_orientation(scan.image_hu, there))
    upright = find_lesions(image_of(scan), masks_of(scan), lesion_network)
    masks = replace(masks_of(scan), lungs=nib.apply_orientation(masks_of(scan).lungs, there))
    image = MetaTensor(torch.from_numpy(turned)[None], affine=torch.from_numpy(affine))
    found = find_lesions(image, masks, lesion_network)
    assert np.array_equal(found.lesions, nib.apply_orientation(upright.lesions, there))
    assert found.slices == tuple(sorted(39 - z for z in upright.slices))


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_scores_and_attention_in_half_precision_are_near_those_in_full_precision(scan, bundles, precision):
    """Random networks of the tests' size; with their weights no score is far from 1/2."""
    folder, found = bundles / "covid_cap_bundle", []
    for name in ("fp32", precision):
        network = BundleNetwork.load(folder, folder / "models/model.pt", "classifier", name)
        assert name == "auto" or network.steps.get("inferer")._is_on("cpu") == (name == "bf16")
        found.append(classify(image_of(scan), masks_of(scan), 0.2, network, "a", StageClock()))
    full, half = found
    for name in ("p_us", "p_ss", "p_final"):
        assert getattr(half.scores, name) == pytest.approx(getattr(full.scores, name), abs=0.01)
    for name in ("attention_us", "attention_ss"):
        assert np.abs(getattr(half, name) - getattr(full, name)).mean() < 0.01


def test_half_precision_finds_the_same_lesions_on_almost_all_pixels(scan, bundles):
    folder, found = bundles / "covid_seg_bundle", {}
    for precision in ("fp32", "bf16"):
        network = BundleNetwork.load(folder, folder / "models/model.pt", "lesions", precision)
        found[precision] = find_lesions(image_of(scan), masks_of(scan), network).lesions
    either = (found["fp32"] > 0) | (found["bf16"] > 0)
    assert (found["fp32"] == found["bf16"])[either].mean() > 0.9


def test_reported_volumes_are_within_5_percent_of_the_phantoms(scan, study, planted):
    """From DICOM to the numbers of the report, with known masks."""
    from custom_components.reports.scan.description import describe_scan

    diagnosis = Diagnosis(bundles_dir=planted(scan), infection_by="vbnet")
    findings = diagnosis(ScanSource(study))
    report, voxel_ml = describe_scan(findings), 3.9 * 4.4 * 7.0 / 1000
    infected = scan.infection * scan.lung
    assert report["lungs"]["volume_ml"]["total"] == pytest.approx(scan.lung.sum() * voxel_ml, rel=0.05)
    assert report["infection"]["volume_ml"]["total"] == pytest.approx(infected.sum() * voxel_ml, rel=0.05)
    assert report["infection"]["ratio"] == pytest.approx(scan.infection_ratio, rel=0.05)
    left_voxels = (left_right_lungs(scan.lung, scan.affine) == 1).sum()
    assert report["lungs"]["volume_ml"]["left"] == pytest.approx(left_voxels * voxel_ml, rel=0.05)
    assert findings.scores.p_final == pytest.approx(0.35 * findings.scores.p_us + 0.65 * findings.scores.p_ss, abs=1e-4)
    assert findings.not_done == ()
    assert [model.name.split()[0] for model in findings.models] == ["lungs", "COVID-19", "lesion"]


def test_lungs_without_a_model_have_the_planted_volume_within_5_percent(bare_bundles, tmp_path):
    healthy = make_scan("covid", 0.001, 5, (96, 84, 40), (3.9, 4.4, 7.0))
    image = write_nifti(healthy, tmp_path / "healthy.nii.gz")
    findings = Diagnosis(bundles_dir=bare_bundles)(ScanSource(image))
    assert np.count_nonzero(findings.lungs) == pytest.approx(healthy.lung.sum(), rel=0.05)


def test_lesions_are_searched_on_every_slice_with_lung(scan, study, planted):
    findings = Diagnosis(bundles_dir=planted(scan))(ScanSource(study))
    with_lung = np.flatnonzero(scan.lung.any(axis=(0, 1)))
    assert 0 < with_lung[-1] < 38
    assert set(findings.lesion_slices) >= {*with_lung, with_lung[-1] + 1}
    others = np.setdiff1d(np.arange(40), findings.lesion_slices)
    assert not findings.lesions[..., others].any()


def test_infection_is_what_either_network_finds_in_the_lungs(scan, study, planted):
    findings = Diagnosis(bundles_dir=planted(scan))(ScanSource(study))
    planted_there, dense = (scan.infection * scan.lung) > 0, np.isin(findings.lesions, (1, 2)) & (findings.lungs > 0)
    assert (dense & ~planted_there).any()
    assert (planted_there & ~dense).any()
    assert np.array_equal(findings.infection > 0, planted_there | dense)
    assert "VB-Net or lesion network" in findings.infection_source
    weight = findings.scores.weight_us
    assert findings.scores.p_final == pytest.approx(
        weight * findings.scores.p_us + (1 - weight) * findings.scores.p_ss, abs=1e-4
    )


@pytest.mark.parametrize("options", [{"infection_by": "vbnet"}, {"lesion_classes": False}])
def test_infection_can_be_from_vbnet_only(scan, study, planted, options):
    findings = Diagnosis(bundles_dir=planted(scan), **options)(ScanSource(study))
    assert np.array_equal(findings.infection, scan.infection * scan.lung)
    assert findings.infection_source == "VB-Net"


def test_a_scan_without_infection_has_the_ratio_0(study, scan, planted, monkeypatch):
    folder = planted(scan)
    monkeypatch.setattr(type(scan), "infection", property(lambda phantom: np.zeros_like(phantom.lung)))
    findings = Diagnosis(bundles_dir=folder, infection_by="vbnet")(ScanSource(study))
    assert not findings.infection.any()
    assert findings.not_done == ()
    assert findings.scores.weight_us == 0.35


def test_without_weights_of_vbnet_infection_is_unknown_even_with_lesion_classes(study, bundles):
    findings = Diagnosis(bundles_dir=bundles)(ScanSource(study))
    assert set(findings.lesion_slices) >= set(np.flatnonzero(findings.lungs.any(axis=(0, 1))))
    assert np.isin(findings.lesions, (1, 2)).any()
    assert (findings.infection, findings.infection_source) == (None, None)
    assert NO_RATIO in findings.not_done
    assert findings.scores.p_final is None
    assert findings.scores.p_us is not None


def test_values_that_are_not_hu_are_an_error_without_a_classifier_too(scan, bare_bundles, planted, tmp_path):
    raw = write_nifti(scan, tmp_path / "raw.nii.gz")
    image = nib.load(raw)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1024, image.affine), raw)
    folder = planted(scan)
    shutil.rmtree(folder / "covid_seg_bundle" / "models")
    (folder / "covid_cap_bundle" / "models" / "model.pt").unlink()
    with pytest.raises(ValueError, match="Case raw: median inside the lung mask"):
        Diagnosis(bundles_dir=folder)(ScanSource(raw))


def test_findings_and_their_files_are_on_the_grid_of_the_ct(study, scan, planted, tmp_path):
    source, diagnosis = ScanSource(study), Diagnosis(bundles_dir=planted(scan))
    image = read_image(source)
    results = KeptResults(tmp_path, source.case_id, image.affine.numpy(), source.clock)
    findings = diagnosis.find(source, image, results.stage)
    assert np.allclose(findings.affine, scan.affine)
    for end in ("lungs", "infection", "lesions", "attention_us", "attention_ss"):
        path = tmp_path / f"{findings.case_id}_{end}.nii.gz"
        written = nib.load(path)
        assert np.allclose(written.affine, scan.affine)
        assert written.get_data_dtype() == np.uint8
        assert np.abs(np.asarray(written.dataobj) - getattr(findings, end)).max() < 1e-6
        assert np.array_equal(read_volume(path, end), getattr(findings, end))


def test_every_stage_is_timed(study, scan, planted):
    source = ScanSource(study)
    findings = Diagnosis(bundles_dir=planted(scan))(source)
    stages = ["find the series", "read", "lungs and infection", "lesion classes", "infection ratio", "paper grid"]
    stages += ["both branches, attention", "attention to the CT's grid"]
    assert list(findings.seconds) == stages
    assert all(seconds > 0 for seconds in findings.seconds.values())
    table = source.clock.table().splitlines()
    assert table[0].split() == ["stage", "wall", "s", "CPU", "s"]
    assert float(table[-1].split()[1]) == pytest.approx(sum(findings.seconds.values()), abs=0.01)


def test_a_dicom_series_is_the_image_that_ctreader_reads(study, scan):
    source = ScanSource(study)
    image = source.image()
    reader = CTReader()
    array, meta = reader.get_data(reader.read(study / "axial"))
    assert np.array_equal(image[0], array)
    assert np.allclose(image.affine, meta["affine"])
    assert image.meta["filename_or_obj"] == source.case_id == source.series.uid


def test_a_single_slice_is_an_error(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 1), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="Case a: the image is 9 x 8 x 1 voxels"):
        ScanSource(tmp_path / "a.nii.gz").image()


def test_the_bundles_of_a_clone_are_found_and_an_error_names_the_searched_folders(tmp_path):
    assert find_bundle("covid_seg_bundle") == bundle_folder("covid_seg_bundle") == ROOT / "covid_seg_bundle"
    assert find_bundle("no_such_bundle") is None
    with pytest.raises(ValueError, match=rf"No no_such_bundle with .* in {ROOT} and {ROOT.parent}\."):
        bundle_folder("no_such_bundle")
    with pytest.raises(ValueError, match=r"No covid_cap_bundle with configs/inference.json in .*both bundles"):
        Diagnosis(bundles_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp16"}, "precision is 'fp16'. Expected one of: auto, fp32, bf16"),
        ({"infection_by": "Either"}, "infection_by is 'Either'. Expected 'either' or 'vbnet'"),
        *(({"weights": Weights(**{kind: Path("missing.pt")})}, "No weights at ") for kind in ("cap", "seg", "segment")),
    ],
)
def test_wrong_arguments_and_missing_weights_are_errors(bundles, arguments, message):
    with pytest.raises(ValueError, match=message):
        Diagnosis(bundles_dir=bundles, **arguments)


def test_weights_of_another_network_are_an_error(bundles):
    with pytest.raises(ValueError, match=r"of another architecture.*or give another --cap_weights.$"):
        Diagnosis(Weights(cap=bundles / "covid_seg_bundle/models/model.pt"), bundles)


def test_the_hash_of_weights_identifies_their_training_data(bundles, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(bundles / "covid_cap_bundle", bundle)
    weights = bundle / "models" / "model.pt"
    unknown = describe_model(bundle, weights, "classifier")
    metadata = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
    metadata["trained_on"] = {unknown.sha256: "phantoms"}
    (bundle / "configs/metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    assert (unknown.trained_on, describe_model(bundle, weights, "classifier").trained_on) == ("unknown", "phantoms")
    weights.write_bytes(weights.read_bytes() + b" ")
    assert describe_model(bundle, weights, "classifier").trained_on == "unknown"


def test_weights_trained_on_phantoms_are_named_in_log_and_report(scan, study, planted, tmp_path, caplog):
    bundles = planted(scan)
    card = {"trained_on": data_facts(synthetic_cases(tmp_path))}
    write_card(bundles / "covid_cap_bundle/models/model.pt", card)
    findings = Diagnosis(bundles_dir=bundles)(ScanSource(study))
    assert "model.pt: trained on synthetic CT only; the output has no meaning for a patient" in caplog.text
    report = describe_scan(findings)
    described = {model["name"]: (model["synthetic"], model["trained_on"]) for model in report["models"]}
    assert described["COVID-19 or CAP"] == (True, "2 synthetic cases (no split)")
    assert described["lungs and infection (VB-Net)"][0] is False
    assert report["summary"].endswith("Trained on synthetic CT only, without meaning for a patient: COVID-19 or CAP.")
    assert f"COVID-19 or CAP: {SYNTHETIC_ONLY}." in report["warnings"]


def synthetic_cases(folder):
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    return [{"image": str(folder / name), "synthetic": True} for name in ("a", "b")]


def test_if_vbnet_finds_no_lungs_morphology_replaces_it(scan, bundles, tmp_path):
    weights = tmp_path / "vbnet.pt"
    network = VBNet()
    network.head.conv.bias.data[0] = 100.0
    torch.save(network.state_dict(), weights)
    diagnosis = Diagnosis(Weights(segment=weights), bundles, lesion_classes=False)
    findings = diagnosis(ScanSource(write_nifti(scan, tmp_path / "a.nii.gz")))
    assert "threshold and morphology" in findings.lung_source
    assert "VB-Net finds 0.00 litres" in findings.not_done[0]
    assert [model.name for model in findings.models] == ["COVID-19 or CAP"]


def test_a_path_and_a_volume_in_memory_give_the_findings_of_the_file(scan, bundles, tmp_path):
    path = write_nifti(scan, tmp_path / "a.nii.gz")
    diagnosis = Diagnosis(bundles_dir=bundles)
    of_source, of_path = diagnosis(ScanSource(path)), diagnosis(str(path))
    image = ScanSource(path).image()
    of_volume = diagnosis(MetaTensor(image.as_tensor().double(), affine=image.affine), case_id="b")
    assert (of_path.case_id, of_volume.case_id, of_volume.series) == ("a", "b", None)
    for other in (of_path, of_volume):
        assert other.scores == of_source.scores
        for name in ("image_hu", "affine", "lungs", "infection", "lesions", "attention_us"):
            assert np.array_equal(getattr(other, name), getattr(of_source, name))


@pytest.mark.parametrize(
    ("hu", "words"),
    [(torch.zeros(4, 5, 6), r"shape \(4, 5, 6\)"), (torch.full((1, 4, 5, 6), torch.nan), "NaN or infinite")],
)
def test_an_invalid_volume_in_memory_is_an_error_that_names_the_case(hu, words, bare_bundles):
    with pytest.raises(ValueError, match=f"Case b: the CT has .*{words}"):
        Diagnosis(bundles_dir=bare_bundles)(MetaTensor(hu), case_id="b")


def test_masks_alone_are_those_of_the_findings_and_need_no_classifier(study, scan, planted):
    folder = planted(scan)
    whole, alone = Diagnosis(bundles_dir=folder), Diagnosis(bundles_dir=folder, classify=False)
    assert (whole.classifier is None, alone.classifier is None) == (False, True)
    source = ScanSource(study)
    findings = whole(source)
    masks, lesions, infected = alone.segment(source, read_image(source))
    assert np.array_equal(masks.lungs, findings.lungs)
    assert np.array_equal(lesions.lesions, findings.lesions)
    assert np.array_equal(infected.infection, findings.infection)
    assert (alone(source).scores, alone.volumes()) == (None, ("lungs", "infection", "lesions"))


def test_the_settings_of_masks_change_with_what_changes_masks(scan, planted):
    folder = planted(scan)
    settings = Diagnosis(bundles_dir=folder, classify=False).mask_settings()
    assert json.loads(json.dumps(settings)) == settings
    other = Diagnosis(bundles_dir=folder, precision="fp32", infection_by="vbnet", lesion_classes=False).mask_settings()
    changed = {name for name in settings if settings[name] != other[name]}
    assert changed == {"infection_by", "precision", "lesion network"}
    weights = folder / "covid_cap_bundle" / "models" / "vbnet.pt"
    torch.save({name: value + 1 for name, value in torch.load(weights, weights_only=True).items()}, weights)
    again = Diagnosis(bundles_dir=folder).mask_settings()
    assert {name for name in settings if settings[name] != again[name]} == {"VB-Net"}
