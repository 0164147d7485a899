"""Masks that were corrected in a viewer come back as training data."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.masks.corrections import take_corrections
from custom_components.masks.dicom_seg import read_segmentation
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import write_nifti_array
from custom_components.reports.dicom.objects import write_dicom_objects
from custom_components.reports.scan.findings import ScanFindings
from custom_components.transforms.lungs.left_right import left_right_lungs
from monai.data import MetaTensor

from tests.reports.dicom.conftest import HEAD_FIRST, TILTED
from tests.reports.dicom.scans import findings_of, series_files
from tests.written_images import AXIAL


@pytest.fixture(scope="module")
def phantom():
    return make_volume(3, (48, 44, 16), (8.0, 8.0, 18.0))


@pytest.fixture(scope="module")
def study(phantom, tmp_path_factory):
    """A DICOM series, its findings, and the segmentation that `diagnose` writes of them."""
    root = tmp_path_factory.mktemp("study")
    write_dicom(phantom, root / "scan")
    source = ScanSource(root / "scan")
    image = source.image()
    hu = np.asarray(image[0])
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[(hu < -300) & (hu > -970)] = 1
    lungs = left_right_lungs(lungs, image.affine.numpy())
    lesions = np.where((lungs > 0) & (np.indices(hu.shape)[2] % 3 == 0), 1 + (np.indices(hu.shape)[0] % 2), 0)
    found = ScanFindings(
        source.case_id, hu, image.affine.numpy(), lungs, "threshold", (lesions > 0).astype(np.uint8), "VB-Net",
        lesions.astype(np.uint8), series=source.series,
    )  # fmt: skip
    return found, root / "scan", write_dicom_objects(found, root / "dicom")["segmentation"]


def nifti(mask, affine, path):
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)


def written(datalist):
    (case,) = json.loads(datalist.read_text(encoding="utf-8"))["cases"]
    kinds = ("image", "label", "lung", "infection")
    return case, {kind: nib.load(datalist.parent / case[kind]) for kind in kinds if kind in case and "/" in case[kind]}


@pytest.mark.parametrize("orientation", [AXIAL, TILTED, HEAD_FIRST], ids=["axial", "tilted", "head first"])
def test_a_segmentation_is_read_voxel_by_voxel(orientation, tmp_path):
    found = findings_of(series_files(tmp_path / "ct", orientation=orientation))
    path = write_dicom_objects(found, tmp_path / "dicom")["segmentation"]
    for turn in (np.array([[0, 1], [1, 1], [2, 1]]), np.array([[2, 1], [0, -1], [1, 1]])):  # as in the file, and turned
        affine = found.affine @ nib.orientations.inv_ornt_aff(turn, found.lungs.shape)
        arrays = {name: nib.apply_orientation(getattr(found, name), turn) for name in ("lungs", "infection", "lesions")}
        image = MetaTensor(torch.zeros(1, *arrays["lungs"].shape), affine=torch.from_numpy(affine))
        masks = read_segmentation(path, image, "a")
        for name, array in arrays.items():
            np.testing.assert_array_equal(masks[name], array, err_msg=name)


def test_a_segmentation_becomes_a_case_of_the_lesion_network(study, tmp_path):
    found, scan, segmentation = study
    case, files = written(take_corrections(segmentation, scan, tmp_path / "set"))
    assert (case["case_id"], case["patient_id"], case["group"], case["fold"]) == (
        found.case_id, "patient_001", "patient_001", 0,
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(files["label"].dataobj), found.lesions)
    np.testing.assert_array_equal(np.asarray(files["lung"].dataobj), found.lungs > 0)
    np.testing.assert_array_equal(np.asarray(files["image"].dataobj), np.rint(found.image_hu))
    np.testing.assert_allclose(files["label"].affine, found.affine, atol=1e-4)


def test_a_segmentation_becomes_a_case_of_vbnet(study, tmp_path):
    found, scan, segmentation = study
    case, files = written(take_corrections(segmentation, scan, tmp_path / "set", structure="infection", label="cap"))
    np.testing.assert_array_equal(np.asarray(files["infection"].dataobj), found.infection)
    assert case["label"] == "cap"
    assert case["ratio"] == pytest.approx(found.infection.sum() / (found.lungs > 0).sum(), abs=1e-6)
    assert (case["label"], case["group"]) == ("cap", "cap_large")


@pytest.mark.parametrize("end", ["_lesions", "_seg", ""])
def test_a_nifti_mask_may_be_turned_and_is_named_like_the_scan(end, study, phantom, tmp_path):
    found, scan, _ = study
    there = np.array([[1, -1], [0, 1], [2, 1]])
    turned = nib.apply_orientation(found.lesions, there)
    affine = found.affine @ nib.orientations.inv_ornt_aff(there, found.lesions.shape)
    nifti(turned, affine, tmp_path / "masks" / f"{found.case_id}{end}.nii.gz")
    _, files = written(take_corrections(tmp_path / "masks", scan, tmp_path / "set"))
    np.testing.assert_array_equal(np.asarray(files["label"].dataobj), found.lesions)


def left_out(folder):
    with (folder / "left_out.csv").open(newline="", encoding="utf-8") as file:
        return {row["case_id"]: row["reason"] for row in csv.DictReader(file)}


def test_what_cannot_be_used_is_listed_with_the_reason(phantom, tmp_path, caplog):
    lesions = np.zeros(phantom.image_hu.shape, np.uint8)
    for name in ("good", "values", "size", "moved"):
        write_nifti_array(phantom.image_hu.astype(np.int16), phantom, tmp_path / "scans" / f"{name}.nii.gz")
    moved = phantom.affine.copy()
    moved[:3, 3] += 4
    nifti(lesions, phantom.affine, tmp_path / "masks" / "good_lesions.nii.gz")
    nifti(lesions + 7, phantom.affine, tmp_path / "masks" / "values_lesions.nii.gz")
    nifti(lesions[1:], phantom.affine, tmp_path / "masks" / "size_lesions.nii.gz")
    nifti(lesions, moved, tmp_path / "masks" / "moved_lesions.nii.gz")
    nifti(lesions, phantom.affine, tmp_path / "masks" / "stranger_lesions.nii.gz")
    case, _ = written(take_corrections(tmp_path / "masks", tmp_path / "scans", tmp_path / "set"))
    assert case["case_id"] == "good"
    reasons = left_out(tmp_path / "set")
    assert reasons.keys() == {"values", "size", "moved"}
    assert "Case values: values_lesions.nii.gz has the values 7. Expected 0, 1, 2, 3, 255" in reasons["values"]
    assert reasons["size"].startswith("Case size: ")
    assert reasons["moved"].startswith("Case moved: ")
    assert "1 files belong to none of the scans: stranger_lesions.nii.gz" in caplog.text


def test_mirrored_lungs_and_missing_lungs_are_refused(study, tmp_path):
    found, scan, _ = study
    nifti(found.infection, found.affine, tmp_path / "masks" / f"{found.case_id}_infection.nii.gz")
    with pytest.raises(ValueError, match=r"there is no mask of lungs. Save lungs too"):
        take_corrections(tmp_path / "masks", scan, tmp_path / "set", structure="infection")
    nifti(found.lungs[:, ::-1, ::-1], found.affine, tmp_path / "masks" / f"{found.case_id}_lungs.nii.gz")
    with pytest.raises(ValueError, match=r"of lungs is aerated lung, .* when it is mirrored"):
        take_corrections(tmp_path / "masks", scan, tmp_path / "set", structure="infection")
    assert not (tmp_path / "set").exists()


def test_two_corrections_of_a_case_and_none_at_all_are_refused(study, tmp_path):
    _, scan, segmentation = study
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes(segmentation.read_bytes())
    with pytest.raises(ValueError, match=r"there are two corrections, a.dcm and b.dcm. Keep one of them"):
        take_corrections(tmp_path, scan, tmp_path / "set")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"No correction in .* belongs to one of the 1 scans"):
        take_corrections(tmp_path / "none", scan, tmp_path / "set")


def test_segments_of_other_names_and_of_another_grid_are_refused(study, tmp_path):
    _, scan, segmentation = study
    image = ScanSource(scan).image()
    with pytest.raises(ValueError, match=r"is not on the voxels of the CT. Export it again"):
        read_segmentation(segmentation, image[:, :-2, :, :], "a")
    image.affine[0, 3] += 1
    with pytest.raises(ValueError, match=r"is not on the voxels of the CT. Export it again"):
        read_segmentation(segmentation, image, "a")


def test_the_lesion_network_trains_on_corrections(study, tmp_path):
    from tests.bundles.seg.conftest import BUNDLE, TRAINING

    _, scan, segmentation = study
    take_corrections(segmentation, scan, tmp_path / "set")
    folders = {"dataset_dir": tmp_path / "set", "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    options = {**TRAINING, "epochs": 1, "protocol": "all"}
    BUNDLE.run(["train.yaml", "all_cases.yaml"], "training", **{**options, **folders})
    assert (tmp_path / "models").is_dir()
