"""Each converter on an imitation of the published set, and the trainings on its output."""

import shutil

import nibabel
import numpy as np
import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.datasets.covid20_volumes import convert_covid20_volumes
from custom_components.datasets.ct_excerpts import EFFUSION, LUNG, OUTSIDE, UNSURE
from custom_components.datasets.lctsc import convert_lctsc
from custom_components.datasets.medseg_volumes import convert_medseg_volumes
from custom_components.datasets.plethora import convert_plethora
from custom_components.phantom.dicom import phantom_uid
from nibabel.orientations import aff2axcodes, axcodes2ornt, io_orientation, ornt_transform

from tests.datasets.published import (
    cases_of,
    chest,
    contours_of,
    grey,
    lungs_of,
    reasons_of,
    reviewers,
    save,
    whole_lung,
    write_covid20,
    write_ct,
    write_medseg,
    write_plethora,
    write_rtstruct,
)
from tools.seg_mixed import load_slices, partial_cases
from tools.vbnet_mixed import load_scans

ONE, TWO = chest(1), chest(2)


def upright(datalist, case, key):
    """A volume with its voxels to Left, Posterior and Superior."""
    image = nibabel.load(datalist.parent / case[key])
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS")))
    return np.asarray(turned.dataobj), turned.affine


def assert_same_place(affine, phantom):
    np.testing.assert_allclose(affine, phantom.affine, atol=1e-3)


@pytest.fixture(scope="module")
def covid20(tmp_path_factory):
    root = tmp_path_factory.mktemp("zenodo")
    names = ("coronacases_001", "radiopaedia_10_85902_1", "radiopaedia_10_85902_3", "radiopaedia_7_85703_0")
    return write_covid20(root, dict(zip(names, (ONE, TWO, ONE, TWO), strict=True)))


def test_zenodo_volumes_get_hu_lungs_and_infection_at_their_place(covid20, tmp_path):
    datalist = convert_covid20_volumes(covid20, tmp_path / "set", num_folds=3)
    cases = cases_of(datalist)
    for name, phantom in {"coronacases_001": ONE, "radiopaedia_10_85902_1": TWO, "radiopaedia_7_85703_0": TWO}.items():
        hu, affine = upright(datalist, cases[name], "image")
        assert_same_place(affine, phantom)
        off = 0.5 if name.startswith("corona") else 0.5 + 1500 / 255 / 2
        assert np.abs(hu - np.clip(phantom.image_hu, -1250, 250))[phantom.image_hu < 250].max() <= off
        np.testing.assert_array_equal(upright(datalist, cases[name], "infection")[0], phantom.infection)
        np.testing.assert_array_equal(upright(datalist, cases[name], "lung")[0], phantom.lung | phantom.infection)


def test_scans_of_one_patient_stay_in_one_fold_and_the_bundle_lists_them(covid20, tmp_path):
    scans = list_scans(convert_covid20_volumes(covid20, tmp_path / "set", num_folds=3))
    patients = {scan["case_id"]: (scan["patient_id"], scan["fold"]) for scan in scans}
    assert patients["radiopaedia_10_85902_1"] == patients["radiopaedia_10_85902_3"]
    assert len({fold for _, fold in patients.values()}) == 3
    assert scans[0]["ratio"] == pytest.approx(ONE.infection.sum() / (ONE.lung | ONE.infection).sum(), abs=1e-5)


def test_a_copy_with_longer_names_and_only_combined_masks_gives_the_same_result(covid20, tmp_path):
    copy, plain = tmp_path / "copy", covid20 / "COVID-19-CT-Seg_20cases"
    for name, longer in {
        "coronacases_001": "coronacases_org_001",
        "radiopaedia_7_85703_0": "radiopaedia_org_covid-19-pneumonia-7_85703_0-dcm",
    }.items():
        for source, target in {
            plain / f"{name}.nii.gz": copy / "ct_scans" / f"{longer}.nii" / f"{longer}.nii.gz",
            covid20 / "Lung_and_Infection_Mask" / f"{name}.nii.gz": copy / "lung_and_infection_mask" / f"{name}.nii.gz",
        }.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    first, second = (
        convert_covid20_volumes(root, tmp_path / f"set_{root.name}", num_folds=1) for root in (covid20, copy)
    )
    for name, case in cases_of(second).items():
        for key in ("image", "lung", "infection"):
            np.testing.assert_array_equal(upright(second, case, key)[0], upright(first, cases_of(first)[name], key)[0])


def test_invalid_zenodo_files_are_skipped_with_the_reason(covid20, tmp_path):
    root = shutil.copytree(covid20, tmp_path / "odd")
    images = root / "COVID-19-CT-Seg_20cases"
    save(images / "radiopaedia_10_85902_1.nii.gz", TWO.image_hu, TWO.affine)
    (root / "Infection_Mask" / "radiopaedia_7_85703_0.nii.gz").unlink()
    (root / "Lung_and_Infection_Mask" / "radiopaedia_7_85703_0.nii.gz").unlink()
    (images / "radiopaedia_10_85902_3.nii.gz").write_bytes(b"no archive")
    datalist = convert_covid20_volumes(root, tmp_path / "set", num_folds=1)
    reasons = reasons_of(datalist)
    assert set(cases_of(datalist)) == {"coronacases_001"}
    assert "Expected intensities of 0 to 255" in reasons["radiopaedia_10_85902_1"]
    assert "there is no file in lung_and_infection_mask" in reasons["radiopaedia_7_85703_0"]
    assert "truncated or not a NIfTI file" in reasons["radiopaedia_10_85902_3"]


def test_medsegs_volumes_keep_their_classes_and_the_bundle_lists_them(tmp_path):
    datalist = convert_medseg_volumes(write_medseg(tmp_path / "in", {"1": ONE, "2": TWO}), tmp_path / "set")
    cases = cases_of(datalist)
    assert [case["case_id"] for case in list_cases(tmp_path / "set")] == ["rp_1", "rp_2"]
    np.testing.assert_array_equal(upright(datalist, cases["rp_1"], "label")[0], ONE.label)
    np.testing.assert_array_equal(upright(datalist, cases["rp_1"], "lung")[0], whole_lung(ONE))
    assert cases["rp_1"]["label_sets"] == {"0": [0], "1": [1], "2": [2], "3": [3]}


def test_a_medseg_mask_with_another_value_is_skipped(tmp_path):
    root = write_medseg(tmp_path / "in", {"1": ONE, "2": TWO})
    save(root / "rp_msk" / "1.nii.gz", TWO.label * 1.5, TWO.affine)
    datalist = convert_medseg_volumes(root, tmp_path / "set")
    assert set(cases_of(datalist)) == {"rp_2"}
    assert "1.nii.gz has 4.5 in slice" in reasons_of(datalist)["rp_1"]


@pytest.fixture(scope="module")
def plethora(tmp_path_factory):
    """001 and 016 without problems; 013 is weak, 014 lacks a slice, 002 has no effusion, 003 no CT."""
    root = tmp_path_factory.mktemp("nsclc")
    phantoms = {"LUNG1-001": ONE, "LUNG1-016": TWO, "LUNG1-013": ONE, "LUNG1-014": ONE, "LUNG1-002": TWO}
    for patient, phantom in phantoms.items():
        folder = write_ct(root, "NSCLC-Radiomics", patient, phantom)
        structures = folder.parent / "3.000000-NA-78236" / "1-1.dcm"
        write_rtstruct(structures, patient, {"Lung-Left": []}, "1.9")
    sorted(root.rglob("LUNG1-014/*/0*/*.dcm"))[7].unlink()
    write_plethora(root, {**phantoms, "LUNG1-003": ONE})
    shutil.rmtree(root / "Effusions" / "LUNG1-002")
    return root


def test_effusion_is_where_reviewers_agree_and_the_rest_of_the_cavity_is_unknown(plethora, tmp_path):
    datalist = convert_plethora(plethora, tmp_path / "set")
    case = cases_of(datalist)["LUNG1-001"]
    hu, affine = upright(datalist, case, "image")
    assert_same_place(affine, ONE)
    np.testing.assert_array_equal(hu, np.rint(ONE.image_hu))
    labels, _ = upright(datalist, case, "label")
    (first, second), cavity = reviewers(ONE), whole_lung(ONE) > 0
    np.testing.assert_array_equal(labels == EFFUSION, first & second)
    np.testing.assert_array_equal(labels == 255, first ^ second)
    rest = cavity & ~(first | second)
    np.testing.assert_array_equal(labels == LUNG, rest & (hu < -400))
    np.testing.assert_array_equal(labels == UNSURE, rest & (hu >= -400))
    assert set(np.unique(labels)) == {OUTSIDE, UNSURE, LUNG, EFFUSION, 255}
    assert case["label_sets"] == {"0": [0], "1": [0, 1, 2], "2": [0, 1, 2], "3": [3]}


def test_patients_of_plethora_that_cannot_be_used_are_listed_with_the_reason(plethora, tmp_path):
    datalist = convert_plethora(plethora, tmp_path / "set")
    reasons = reasons_of(datalist)
    assert set(cases_of(datalist)) == {"LUNG1-001", "LUNG1-016"}
    assert reasons["LUNG1-013"].startswith("Weak label")
    assert "slice spacing is uneven" in reasons["LUNG1-014"]
    assert reasons["LUNG1-002"] == "Case LUNG1-002: the mask of effusion is missing."
    assert "LUNG1-003: 0 CT series" in reasons["LUNG1-003"]


@pytest.fixture(scope="module")
def lctsc(tmp_path_factory):
    """101 with `Lung L`, 103 without problems, and four with problems."""
    root = tmp_path_factory.mktemp("lctsc")
    lungs = {name: contours_of(mask, ONE.affine) for name, mask in lungs_of(ONE).items()}
    left, right = lungs.values()
    frame = phantom_uid(ONE, "frame")
    patients = {
        "LCTSC-Test-S1-101": ({"Heart": right, "Lung L": left, "Lung_R": right}, frame),
        "LCTSC-Test-S1-103": (lungs, frame),
        "LCTSC-Test-S3-101": (lungs, "1.2.9"),
        "LCTSC-Train-S2-001": ({"Lung_L": right, "Lung_R": left}, frame),
        "LCTSC-Train-S2-002": ({"Lung_L": left, "Lung_R": []}, frame),
        "LCTSC-Train-S2-003": ({"Lung_L": [np.add(one, [0, 0, 6]) for one in left], "Lung_R": right}, frame),
    }
    for patient, (structures, own_frame) in patients.items():
        folder = write_ct(root, "LCTSC", patient, ONE)
        write_rtstruct(folder.parent / "1.000000-NA-56597" / "1-1.dcm", patient, structures, own_frame)
    return root


def test_lungs_are_the_voxels_inside_the_contours(lctsc, tmp_path):
    datalist = convert_lctsc(lctsc, tmp_path / "set")
    lungs = lungs_of(ONE)
    for name in ("LCTSC-Test-S1-101", "LCTSC-Test-S1-103"):
        case = cases_of(datalist)[name]
        np.testing.assert_array_equal(upright(datalist, case, "image")[0], np.rint(ONE.image_hu))
        sides, affine = upright(datalist, case, "lung")
        assert_same_place(affine, ONE)
        np.testing.assert_array_equal(sides, np.where(lungs["Lung_L"], 1, np.where(lungs["Lung_R"], 2, 0)))
        np.testing.assert_array_equal(upright(datalist, case, "label")[0], np.where(ONE.lung > 0, LUNG, OUTSIDE))
    assert aff2axcodes(affine) == ("L", "P", "S")


def test_patients_of_lctsc_that_cannot_be_used_are_listed_with_the_reason(lctsc, tmp_path):
    reasons = reasons_of(convert_lctsc(lctsc, tmp_path / "set"))
    assert set(reasons) == {"LCTSC-Test-S3-101", "LCTSC-Train-S2-001", "LCTSC-Train-S2-002", "LCTSC-Train-S2-003"}
    assert "another frame of reference" in reasons["LCTSC-Test-S3-101"]
    assert "Lung_L lies to the right of Lung_R" in reasons["LCTSC-Train-S2-001"]
    assert "contours of 1 lungs" in reasons["LCTSC-Train-S2-002"]
    assert "a contour lies at slice" in reasons["LCTSC-Train-S2-003"]


def test_nothing_names_a_patient_beyond_the_pseudonyms(lctsc, tmp_path, caplog):
    datalist = convert_lctsc(lctsc, tmp_path / "set")
    written = datalist.read_text(encoding="utf-8") + (datalist.parent / "left_out.csv").read_text(encoding="utf-8")
    assert "Secret" not in written + caplog.text
    assert "Phantom^" not in written + caplog.text


def test_both_trainings_read_all_four_sets(covid20, plethora, lctsc, tmp_path):
    sets = {
        "covid20": convert_covid20_volumes(covid20, tmp_path / "covid20", num_folds=1).parent,
        "medseg": convert_medseg_volumes(write_medseg(tmp_path / "in", {"1": ONE}), tmp_path / "medseg").parent,
        "effusion": convert_plethora(plethora, tmp_path / "effusion").parent,
        "healthy": convert_lctsc(lctsc, tmp_path / "healthy").parent,
    }
    folders = {name: sets[name] for name in ("effusion", "healthy")}
    cases = partial_cases(sets["medseg"], sets["covid20"], folders, None, tmp_path)
    assert [case["case_id"] for case in cases["effusion"]] == ["LUNG1-001"]  # LUNG1-016 is held out
    assert [case["case_id"] for case in cases["healthy"]] == ["LCTSC-Test-S1-101"]
    slices = {name: load_slices(some, 32) for name, some in cases.items()}
    classes = {name: set(np.unique([one["label"] for one in some])) for name, some in slices.items()}
    assert classes == {"medseg": {0, 1, 2, 3}, "covid20": {0, 1, 2}, "effusion": {0, 1, 2, 3, 255}, "healthy": {0, 2}}
    scans = {name: load_scans(sets[name]) for name in ("covid20", "effusion", "healthy")}
    assert {name: len(some) for name, some in scans.items()} == {"covid20": 4, "effusion": 1, "healthy": 1}


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (convert_covid20_volumes, r"has no volumes\. Expected COVID-19-CT-Seg_20cases/"),
        (convert_medseg_volumes, r"has no volumes\. Expected rp_im/1\.nii\.gz"),
        (convert_plethora, "has 0 patients with DICOM series and 0 with masks. Expected both"),
        (convert_lctsc, r"has no patients\. Expected DICOM files"),
    ],
)
def test_another_folder_is_rejected_and_nothing_is_written(tmp_path, convert, message):
    save(tmp_path / "in" / "scan.nii.gz", grey(ONE.image_hu), ONE.affine)
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "in", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_if_no_scan_is_usable_the_reasons_are_reported_and_nothing_is_written(tmp_path):
    save(tmp_path / "in" / "rp_im" / "1.nii.gz", ONE.image_hu, ONE.affine)
    with pytest.raises(ValueError, match=r"has 1 problem:\s+- Case rp_1: there is no file in rp_msk and rp_lung_msk"):
        convert_medseg_volumes(tmp_path / "in", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_folder_with_content_is_never_written_into(tmp_path):
    save(tmp_path / "set" / "mine.nii.gz", ONE.label, ONE.affine)
    with pytest.raises(ValueError, match="exists and is not empty"):
        convert_medseg_volumes(write_medseg(tmp_path / "in", {"1": ONE}), tmp_path / "set")
