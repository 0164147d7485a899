import csv
import json
import logging
import uuid

import numpy as np
import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datasets.covid_ct_md import convert_covid_ct_md
from custom_components.datasets.slice_labels import read_slice_labels
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.dicom import write_dicom_file
from custom_components.phantom.nifti import write_nifti_array
from pydicom import dcmread

from tests.datasets.published import reasons_of

CASES = ("COVID-19 Cases", "Cap Cases", "Normal Cases")
SUBJECTS = ("Sample data/COVID-19 subjects", "Sample data/Cap subjects", "Sample data/Normal subjects")
PATIENTS = ((0, "P010"), (0, "P002"), (1, "cap001"), (2, "normal001"))
SLICES = 12


@pytest.fixture(scope="module")
def phantom():
    return make_volume(seed=1, shape=(40, 44, SLICES), spacing_mm=(9.0, 8.5, 24.0))


def write_patient(phantom, folder):
    """A series as published: sex and age in the headers, identifiers that are UUIDs, names in any order."""
    write_dicom(phantom, folder, patient_id="ID-SECRET")
    series = str(uuid.uuid4())
    for number, path in enumerate(sorted(folder.iterdir())):
        image = dcmread(path)
        image.PatientSex, image.PatientAge = "F", "061Y"
        image.SeriesInstanceUID, image.SOPInstanceUID = series, str(uuid.uuid4())
        path.unlink()
        write_dicom_file(image, folder / f"98C14734-ASSH_{number + 1}.dcm")


@pytest.fixture(params=[CASES, SUBJECTS], ids=["figshare", "github"])
def published(request, tmp_path, phantom):
    """The published folders, and masks of all but the normal scan."""
    for place, name in PATIENTS:
        write_patient(phantom, tmp_path / "set" / request.param[place] / name)
        if name != "normal001":
            write_nifti_array(phantom.lung, phantom, tmp_path / "lungs" / f"{name}.nii.gz")
            write_nifti_array(phantom.label.clip(0, 1) * phantom.lung, phantom, tmp_path / "sick" / f"{name}.nii.gz")
    (tmp_path / "set" / ".DS_Store").write_bytes(b"\0")
    return tmp_path / "set"


def folder_of(published, name):
    [folder] = published.rglob(name)
    return folder


def test_without_masks_the_list_is_for_inference_and_the_log_says_what_training_needs(published, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        path = convert_covid_ct_md(published, tmp_path / "list")
    assert path == tmp_path / "list" / "datalist.json"
    first = {"case_id": "P002", "patient_id": "P002", "image": str(folder_of(published, "P002")), "label": "covid"}
    assert json.loads(path.read_text())["cases"][0] == {**first, "sex": "F", "age": 61}
    scans = list_scans(path, labelled=False)
    assert [(scan["case_id"], scan["label"]) for scan in scans] == [("P002", 1), ("P010", 1), ("cap001", 0)]
    assert "Training needs lung and infection masks as well" in caplog.text
    with pytest.raises(ValueError, match="has no 'lung' and no 'infection' and no 'fold'"):
        list_scans(path)


def test_normal_scans_are_left_out_unless_asked_for(published, tmp_path):
    assert reasons_of(convert_covid_ct_md(published, tmp_path / "two")) == {
        "normal001": "Normal: the classifier distinguishes COVID-19 and CAP. Set --normals to list it."
    }
    path = convert_covid_ct_md(published, tmp_path / "three", normals=True)
    assert [case["label"] for case in json.loads(path.read_text())["cases"]] == ["covid", "covid", "cap", "normal"]
    assert "label" not in list_scans(path, labelled=False)[3]
    assert reasons_of(path) == {}


def test_with_both_masks_the_list_is_for_training(tmp_path, published, phantom):
    masks = (tmp_path / "lungs", tmp_path / "sick")
    path = convert_covid_ct_md(published, tmp_path / "list", *masks, num_folds=1)
    scans = list_scans(path)
    ratio = float((phantom.label * phantom.lung > 0).sum() / phantom.lung.sum())
    assert 0 < ratio < 1
    assert [(scan["ratio"], scan["fold"]) for scan in scans] == [(ratio, 0)] * 3
    assert scans[0]["lung"] == str(tmp_path / "lungs" / "P002.nii.gz")


def test_normal_scans_and_masks_for_training_exclude_each_other(tmp_path, published):
    with pytest.raises(ValueError, match="normals and masks for training are set"):
        convert_covid_ct_md(published, tmp_path / "list", tmp_path / "lungs", tmp_path / "sick", normals=True)


def test_lung_masks_alone_are_listed_for_inference(tmp_path, published, caplog):
    with caplog.at_level(logging.INFO):
        path = convert_covid_ct_md(published, tmp_path / "list", lung_masks=tmp_path / "lungs")
    assert [sorted(scan) for scan in list_scans(path, labelled=False)] == [["case_id", "image", "label", "lung"]] * 3
    assert "Training needs infection masks as well" in caplog.text


def test_bad_series_and_masks_are_left_out_each_with_its_reason(tmp_path, published, phantom, caplog):
    next(folder_of(published, "cap001").iterdir()).unlink()
    (tmp_path / "lungs" / "P010.nii.gz").unlink()
    write_nifti_array(phantom.lung[:, :, 1:], phantom, tmp_path / "lungs" / "P002.nii.gz")
    good = folder_of(published, "P002").parent / "P003"
    write_patient(phantom, good)
    write_nifti_array(phantom.lung, phantom, tmp_path / "lungs" / "P003.nii.gz")
    (good.parent / "cap009").mkdir()
    (good.parent / "P004").mkdir()
    (tmp_path / "lungs" / "P004.nii.gz").write_bytes(b"")
    path = convert_covid_ct_md(published, tmp_path / "list", lung_masks=tmp_path / "lungs")
    assert [scan["case_id"] for scan in list_scans(path, labelled=False)] == ["P003"]
    reasons = reasons_of(path)
    assert reasons["P010"] == "Case P010: there is no lung mask P010.nii.gz."
    assert "Case P002: lung is 40 x 44 x 11 but the image is 40 x 44 x 12" in reasons["P002"]
    assert "Case cap001: slice spacing is uneven" in reasons["cap001"]
    assert reasons["cap009"] == "Case cap009: the name says cap, the folder covid."
    assert "no DICOM images among the 0 files" in reasons["P004"]
    assert "SECRET" not in " ".join(reasons.values()) + path.read_text() + caplog.text


def test_patients_may_be_directly_in_the_folder_and_twice_is_once_too_often(published, tmp_path, phantom):
    alone = folder_of(published, "cap001").parent
    assert [scan["case_id"] for scan in list_scans(convert_covid_ct_md(alone, tmp_path / "a"), False)] == ["cap001"]
    write_patient(phantom, published / "copy" / "P002")
    reasons = reasons_of(convert_covid_ct_md(published, tmp_path / "b"))
    assert reasons["P002"] == "Case P002: two folders have this name. Remove one of them."


def test_another_folder_is_rejected_and_nothing_is_written(tmp_path):
    (tmp_path / "Other Cases" / "x001").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no patients. Expected the folders 'COVID-19 subjects'"):
        convert_covid_ct_md(tmp_path, tmp_path / "list")
    assert not (tmp_path / "list").exists()


def write_labels(folder, patients, slices, lobes, end=""):
    """Index.csv, whose numbers skip 43, and the arrays."""
    numbers = [place + (place > 42) for place in range(len(patients))]
    rows = [f"{number},COVID-19,./COVID-19/,{name}" for number, name in zip(numbers, patients, strict=True)]
    (folder / "Index.csv").write_text("\n".join(["Label Index,Diagnosis,Relative Path,Folder/ID", *rows]))
    np.save(folder / f"Slice-level-labels{end}.npy", slices)
    np.save(folder / f"Lobe-level-labels{end}.npy", lobes.astype(float))


@pytest.fixture
def labelled(published):
    """Labels of 45 patients; cap001 is the last, after the number that is skipped."""
    patients = ["P002", *(f"P{number}" for number in range(100, 143)), "cap001"]
    lobes = np.zeros((len(patients), 200, 5), np.uint8)
    lobes[0, 3:7, 1] = 1
    lobes[44, 2, [0, 4]] = 1
    write_labels(published, patients, np.zeros(lobes.shape[:2], np.int64), np.zeros_like(lobes))
    write_labels(published, patients, lobes.any(axis=2).astype(np.int32), lobes, "-updated-1")
    return published


def test_slice_and_lobe_labels_are_those_of_the_row_of_the_index_and_of_the_update(labelled, tmp_path):
    path = convert_covid_ct_md(labelled, tmp_path / "list")
    tables = {case["case_id"]: case.get("slice_labels") for case in json.loads(path.read_text())["cases"]}
    assert tables == {
        "P002": "slice_labels/P002_slices.csv", "P010": None, "cap001": "slice_labels/cap001_slices.csv"
    }  # fmt: skip
    with (path.parent / tables["cap001"]).open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["slice_index_sorted_by_SliceLocation", "infected", *(f"lobe_{k}" for k in range(1, 6))]
    assert rows[3] == ["2", "1", "1", "0", "0", "0", "1"]
    assert len(rows) == 1 + SLICES
    assert sum(row[1] == "1" for row in rows) == 1


def test_labels_beyond_the_last_slice_are_not_used_and_the_scan_is_kept(labelled, tmp_path, caplog):
    slices = np.zeros((45, 200), int)
    slices[0, SLICES] = 1
    np.save(labelled / "Slice-level-labels-updated-1.npy", slices)
    path = convert_covid_ct_md(labelled, tmp_path / "list")
    first = json.loads(path.read_text())["cases"][0]
    assert first["case_id"] == "P002"
    assert "slice_labels" not in first
    assert f"Case P002: the slice labels reach slice {SLICES} of 200, but the scan has {SLICES} slices" in caplog.text


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("Slice-level-labels-updated-1.npy", np.zeros((44, 200)), r"lists 45 patients, but the labels have the shape"),
        (
            "Lobe-level-labels-updated-1.npy",
            np.zeros((45, 100, 5)),
            r"lists 45 patients, but the labels have the shape",
        ),
        ("Slice-level-labels-updated-1.npy", np.full((45, 200), 2), "Expected labels of 0 and 1"),
        ("Slice-level-labels-updated-1.npy", np.array([None]), "cannot be read: .*Download it again"),
    ],
)
def test_labels_that_do_not_belong_together_are_refused(labelled, tmp_path, name, array, message):
    np.save(labelled / name, array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        convert_covid_ct_md(labelled, tmp_path / "list")


def test_an_index_without_folders_is_refused(labelled):
    (labelled / "Index.csv").write_text("Patient,Diagnosis\nP002,COVID-19\n")
    with pytest.raises(ValueError, match=r"Expected a CSV with the column Folder/ID"):
        read_slice_labels([labelled])


def test_a_table_of_a_patient_replaces_the_arrays(labelled):
    (labelled / "P002_slices.csv").write_text("slice_index_sorted_by_SliceLocation,infected\n1,1\n0,0\n")
    assert read_slice_labels([labelled])["P002"].tolist() == [[0], [1]]
    (labelled / "P002_slices.csv").write_text("slice_index_sorted_by_SliceLocation,infected\n0,7\n")
    with pytest.raises(ValueError, match="has other values than 0 and 1"):
        read_slice_labels([labelled])


@pytest.mark.real_data
def test_the_public_piece_is_listed_as_one_patient_of_each_class(tmp_path, real_data):
    path = convert_covid_ct_md(real_data / "covid_ct_md", tmp_path / "list")
    folder = (real_data / "covid_ct_md").absolute()
    assert list_scans(path, labelled=False) == [
        {"case_id": "P001", "image": str(folder / "P001"), "label": 1},
        {"case_id": "cap001", "image": str(folder / "cap001"), "label": 0},
    ]
    cases = json.loads(path.read_text())["cases"]
    assert all(case["sex"] in ("M", "F") and 0 < case["age"] < 120 for case in cases)
    tables = [(path.parent / case["slice_labels"]).read_text().split() for case in cases]
    assert [len(table) - 1 for table in tables] == [148, 168]
