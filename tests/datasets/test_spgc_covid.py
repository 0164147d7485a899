import json
import shutil

import numpy as np
import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datasets.covid_ct_md import convert_covid_ct_md
from custom_components.datasets.overlap import check_no_overlap, scan_digest
from custom_components.datasets.spgc_covid import convert_spgc_covid
from custom_components.images.ct_reader import CTReader
from custom_components.phantom import make_volume, write_dicom

from tests.datasets.published import cases_of, flipped, reasons_of, save

SMALL = {"shape": (40, 44, 12), "spacing_mm": (9.0, 8.5, 24.0)}
LABELS = "Patient ID,Diagnosis\nT001,COVID-19\nT002,CAP\nT003,Normal\nT004,CAP\nT005,COVID\n"


@pytest.fixture(scope="module")
def phantoms():
    return [make_volume(seed=seed, **SMALL) for seed in range(4)]


@pytest.fixture
def published(tmp_path, phantoms):
    """Three patients in Test-1 and one in Test-2; T005 has a label but no folder."""
    for number, phantom in enumerate(phantoms, start=1):
        folder = tmp_path / "SPGC-COVID" / "Test_Data" / f"Test-{1 + (number == 4)}" / f"T00{number}"
        write_dicom(phantom, folder, patient_id="ID-SECRET")
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path / "SPGC-COVID"


def test_patients_of_all_test_sets_are_listed_with_their_labels(published, tmp_path):
    path = convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv")
    first, *others = json.loads(path.read_text())["cases"]
    assert first == {
        "case_id": "test1_T001",
        "patient_id": "test1_T001",
        "image": str(published / "Test_Data/Test-1/T001"),
        "label": "covid",
        "test_set": "1",
    }
    assert [(case["case_id"], case["label"], case["test_set"]) for case in others] == [
        ("test1_T002", "cap", "1"), ("test2_T004", "cap", "2")
    ]  # fmt: skip
    assert [scan["label"] for scan in list_scans(path, labelled=False)] == [1, 0, 0]
    reasons = reasons_of(path)
    assert set(reasons) == {"test1_T003", "T005"}
    assert reasons["test1_T003"].startswith("Normal: ")
    assert reasons["T005"] == "Case T005: it has a label, but no folder with DICOM files. Unpack all archives."


def test_normal_scans_are_listed_when_asked_for(published, tmp_path):
    path = convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv", normals=True)
    assert cases_of(path)["test1_T003"]["label"] == "normal"


def test_labels_may_be_those_of_the_folders(published, tmp_path):
    for name, folder in {"T001": "COVID-19 subjects", "T002": "CAP", "T003": "Normal Cases"}.items():
        (published / "Test_Data/Test-1" / folder).mkdir()
        (published / "Test_Data/Test-1" / name).rename(published / "Test_Data/Test-1" / folder / name)
    path = convert_spgc_covid(published, tmp_path / "list")
    assert {name: case["label"] for name, case in cases_of(path).items()} == {
        "test1_T001": "covid",
        "test1_T002": "cap",
    }
    assert "there is no label. Add a row to the table" in reasons_of(path)["test2_T004"]
    (tmp_path / "labels.csv").write_text("id,label\nT001,CAP\nT002,CAP\n")
    reasons = reasons_of(convert_spgc_covid(published, tmp_path / "other", tmp_path / "labels.csv"))
    assert reasons["test1_T001"] == "Case test1_T001: the table says cap, the folder covid."


def test_a_bad_series_is_left_out(published, tmp_path):
    sorted((published / "Test_Data/Test-1/T002").iterdir())[3].write_bytes(b"")
    path = convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv")
    assert set(cases_of(path)) == {"test1_T001", "test2_T004"}
    assert "IM0003.dcm is truncated or not a DICOM file" in reasons_of(path)["test1_T002"]
    assert "SECRET" not in path.read_text() + str(reasons_of(path))


def test_equal_names_in_two_test_sets_need_the_column_of_the_set(published, tmp_path):
    (published / "Test_Data/Test-2/T004").rename(published / "Test_Data/Test-2/T001")
    with pytest.raises(
        ValueError, match=r"patient T001 has a name that occurs more than once.*add the column test set"
    ):
        convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("Test set,Patient,Label\nTest-1,T001,COVID\nTest 2,T001,CAP\n")
    cases = cases_of(convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv"))
    assert {name: case["label"] for name, case in cases.items()} == {"test1_T001": "covid", "test2_T001": "cap"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Patient,Age\nT001,3\n", "has the columns Patient, Age. Expected patient and label"),
        ("Patient,Label\nT001,flu\n", "patient T001 has label 'flu'. Expected COVID-19, CAP or Normal"),
        ("Patient,Label\nT001,CAP\nT001,CAP\n", "patient T001 has a name that occurs more than once"),
    ],
)
def test_another_table_is_refused(published, tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv")
    with pytest.raises(ValueError, match="cannot be read"):
        convert_spgc_covid(published, tmp_path / "list", tmp_path / "nowhere.csv")
    assert not (tmp_path / "list").exists()


def test_another_folder_is_rejected(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"has no patients. Expected folders such as Test-1"):
        convert_spgc_covid(tmp_path / "in", tmp_path / "list")


@pytest.fixture
def training(tmp_path, phantoms):
    """A training datalist with the scan of T002 as P007, with other names and identifiers."""
    for name, seed in {"COVID-19 Cases/P001": 20, "Cap Cases/cap001": 21}.items():
        write_dicom(make_volume(seed=seed, **SMALL), tmp_path / "train" / name)
    write_dicom(phantoms[1], tmp_path / "train" / "Cap Cases" / "cap007", patient_id="ANOTHER", compressed=True)
    return convert_covid_ct_md(tmp_path / "train", tmp_path / "train_list")


def test_a_test_scan_that_is_also_a_training_scan_is_refused(published, training, tmp_path):
    with pytest.raises(ValueError, match=r"1 test scans are also in the training datalist .*: test1_T002 = cap007\."):
        convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv", training)
    assert not (tmp_path / "list").exists()
    shutil.rmtree(published / "Test_Data/Test-1/T002")
    path = convert_spgc_covid(published, tmp_path / "list", tmp_path / "labels.csv", training.parent)
    assert set(cases_of(path)) == {"test1_T001", "test2_T004"}


def test_a_patient_of_the_training_is_refused_whatever_the_voxels(published, training):
    test = [{"case_id": "a", "patient_id": "P001", "image": str(published / "Test_Data/Test-1/T001")}]
    with pytest.raises(ValueError, match="a = P001"):
        check_no_overlap(test, training)
    check_no_overlap([{**test[0], "patient_id": "P999"}], training)
    entries = json.loads(training.read_text())["cases"]
    training.write_text(json.dumps({"cases": [{**entries[0], "patient_id": "P999"}, *entries[1:]]}))
    with pytest.raises(ValueError, match="a = P001"):
        check_no_overlap([{**test[0], "patient_id": "P999"}], training)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_digest_depends_on_the_voxels_alone(published, tmp_path, phantoms, axis):
    folder = published / "Test_Data/Test-1/T001"
    reader = CTReader()
    hu, meta = reader.get_data(reader.read(folder))
    file = save(tmp_path / "copy.nii.gz", *flipped(hu.astype(np.int16), meta["affine"], axis))
    assert scan_digest(file) == scan_digest(folder)
    hu[20, 20, 5] += 1
    assert scan_digest(save(tmp_path / "other.nii.gz", hu.astype(np.int16), meta["affine"])) != scan_digest(folder)
