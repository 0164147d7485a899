import json
import logging

import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datasets.covid_ct_md import convert_covid_ct_md
from custom_components.phantom import make_volume, write_dicom
from custom_components.phantom.nifti import write_nifti_array

FOLDERS = ("COVID-19 Cases/P010", "COVID-19 Cases/P002", "Cap Cases/cap001", "Normal Cases/normal001")


@pytest.fixture(scope="module")
def phantom():
    return make_volume(seed=1, shape=(40, 44, 12), spacing_mm=(9.0, 8.5, 24.0))


@pytest.fixture
def published(tmp_path, phantom):
    """The published folders, each with the same series, and masks of all of them."""
    for folder in FOLDERS:
        write_dicom(phantom, tmp_path / "set" / folder, patient_id="ID-SECRET")
        name = folder.split("/")[1]
        if not name.startswith("normal"):
            write_nifti_array(phantom.lung, phantom, tmp_path / "lungs" / f"{name}.nii.gz")
            write_nifti_array(phantom.label.clip(0, 1) * phantom.lung, phantom, tmp_path / "sick" / f"{name}.nii.gz")
    return tmp_path / "set"


def test_without_masks_the_list_is_for_inference_and_the_log_says_what_training_needs(published, caplog):
    with caplog.at_level(logging.INFO):
        path = convert_covid_ct_md(published, published / "list.json")
    first = {"case_id": "P002", "patient_id": "P002", "image": "COVID-19 Cases/P002", "label": "covid"}
    assert json.loads(path.read_text())["cases"][0] == first
    scans = list_scans(path, labelled=False)
    assert [(scan["case_id"], scan["label"]) for scan in scans] == [("P002", 1), ("P010", 1), ("cap001", 0)]
    assert "3 scans for inference. Training needs lung and infection masks as well" in caplog.text
    with pytest.raises(ValueError, match="has no 'lung' and no 'infection' and no 'fold'"):
        list_scans(path)


def test_with_both_masks_the_list_is_for_training(tmp_path, published, phantom):
    masks = (tmp_path / "lungs", tmp_path / "sick")
    path = convert_covid_ct_md(published, tmp_path / "a" / "list.json", *masks, num_folds=1)
    scans = list_scans(path)
    ratio = float((phantom.label * phantom.lung > 0).sum() / phantom.lung.sum())
    assert 0 < ratio < 1
    assert [scan["ratio"] for scan in scans] == [ratio] * 3
    assert scans[0]["image"] == str(published / "COVID-19 Cases" / "P002")


def test_lung_masks_alone_are_listed_for_inference(tmp_path, published, caplog):
    with caplog.at_level(logging.INFO):
        path = convert_covid_ct_md(published, tmp_path / "list.json", lung_masks=tmp_path / "lungs")
    assert [sorted(scan) for scan in list_scans(path, labelled=False)] == [["case_id", "image", "label", "lung"]] * 3
    assert "Training needs infection masks as well" in caplog.text


def test_problems_of_series_and_masks_are_reported_together(tmp_path, published, phantom):
    next((published / "Cap Cases" / "cap001").iterdir()).unlink()
    (tmp_path / "lungs" / "P010.nii.gz").unlink()
    write_nifti_array(phantom.lung[:, :, 1:], phantom, tmp_path / "lungs" / "P002.nii.gz")
    with pytest.raises(ValueError, match="has 3 problems") as caught:
        convert_covid_ct_md(published, tmp_path / "list.json", lung_masks=tmp_path / "lungs")
    message = str(caught.value)
    assert "1 in the data set without a mask in lungs/: P010" in message
    assert "Case P002: lung is 40 x 44 x 11 but the image is 40 x 44 x 12" in message
    assert "Case cap001: slice spacing is uneven" in message
    assert "SECRET" not in message
    assert not (tmp_path / "list.json").exists()


def test_patients_may_be_directly_in_the_folder(published):
    scans = list_scans(convert_covid_ct_md(published / "Cap Cases", published / "list.json"), labelled=False)
    assert [scan["case_id"] for scan in scans] == ["cap001"]


def test_another_folder_is_rejected(tmp_path):
    (tmp_path / "Normal Cases" / "normal001").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no patients. Expected the folders 'COVID-19 Cases' and 'Cap Cases'"):
        convert_covid_ct_md(tmp_path, tmp_path / "list.json")


@pytest.mark.real_data
def test_the_public_piece_is_listed_as_one_patient_of_each_class(tmp_path, real_data):
    scans = list_scans(convert_covid_ct_md(real_data / "covid_ct_md", tmp_path / "list.json"), labelled=False)
    folder = (real_data / "covid_ct_md").absolute()
    assert scans == [
        {"case_id": "P001", "image": str(folder / "P001"), "label": 1},
        {"case_id": "cap001", "image": str(folder / "cap001"), "label": 0},
    ]
