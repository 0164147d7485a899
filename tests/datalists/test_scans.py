import json
import re

import numpy as np
import pytest
from custom_components.datalists.scans import list_images, list_scans

FOLDERS = {"image": "images", "lung": "lungs", "infection": "infections"}


def entry_of(name, **changes):
    paths = {key: f"{folder}/{name}.nii.gz" for key, folder in FOLDERS.items()}
    entry = {"case_id": name, "patient_id": f"secret_{name}", **paths, "label": "covid", "fold": 0, "ratio": 0.0125}
    return {**entry, **changes}


@pytest.fixture
def write_scans(tmp_path, write_nifti):
    """A data set of scans with 5 x 6 x 7 voxels, all 0."""

    def write(names=("covid_2", "cap_1"), folders=("images", "lungs", "infections")):
        for folder in folders:
            for name in names:
                write_nifti(tmp_path / "set" / folder / f"{name}.nii.gz", np.zeros((5, 6, 7), dtype=np.uint8))
        return tmp_path / "set"

    return write


@pytest.fixture
def write_list(write_scans):
    """The same with a datalist of two scans."""

    def write(*entries):
        root = write_scans()
        entries = entries or (entry_of("covid_2"), entry_of("cap_1", label="cap", fold=1, ratio=0.25))
        (root / "datalist.json").write_text(json.dumps({"cases": entries}))
        return root

    return write


def test_labelled_scans_are_in_the_order_of_the_datalist_with_absolute_paths(write_list):
    root = write_list()
    scans = list_scans(root)
    assert scans == list_scans(root / "datalist.json")
    assert [scan["case_id"] for scan in scans] == ["covid_2", "cap_1"]
    paths = {key: str(root / folder / "cap_1.nii.gz") for key, folder in FOLDERS.items()}
    known = {"label": 0, "fold": 1, "ratio": 0.25, "group": "cap_large"}
    assert scans[1] == {"case_id": "cap_1", "patient_id": "secret_cap_1", **paths, **known}
    assert (scans[0]["label"], scans[0]["group"]) == (1, "covid_small")


def test_absolute_paths_other_entries_and_a_missing_patient_are_valid(write_list):
    entry = entry_of("covid_2", patient_id=None, age="63", group="covid_small")
    entry["lung"] = str(write_list() / entry["lung"])
    [scan] = list_scans(write_list(entry))
    assert scan["patient_id"] == "covid_2"
    assert "age" not in scan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lung": None, "fold": None},
            r"Case cap_1: has no 'lung' and no 'fold'. Create .*python -m .* build_datalist",
        ),
        ({"ratio": None}, "Case cap_1: has no 'ratio'"),
        ({"label": "pneumonia"}, r"Case cap_1: label is 'pneumonia'. Expected 'covid' .* or 'cap'"),
        ({"label": 0}, r"Case cap_1: label is 0. Expected 'covid'"),
        ({"fold": "2"}, r"Case cap_1: fold is '2'. Expected a whole number"),
        ({"fold": -1}, "Case cap_1: fold is -1"),
        ({"fold": True}, "Case cap_1: fold is True"),
        ({"ratio": 1.5}, r"Case cap_1: infection ratio is 1.5. Expected .* 0 to 1"),
        ({"ratio": float("nan")}, "Case cap_1: infection ratio is nan"),
        ({"ratio": "0.2"}, r"Case cap_1: ratio is '0.2'. Expected .* a number"),
        ({"group": "covid_small"}, "Case cap_1: group is 'covid_small' but cap of ratio 0.0125 is cap_large"),
        ({"image": "images/nowhere.nii.gz"}, r"nowhere.nii.gz does not exist"),
        ({"lung": "lungs"}, r"Case cap_1: lung is a folder. Expected a NIfTI mask"),
        ({"image": "images/cap_1.PNG"}, r"Case cap_1: cap_1.PNG is a 2D image. Expected a CT volume"),
        ({"case_id": "covid_2"}, "1 case ids occur more than once: covid_2"),
        ({"image": "images/covid_2.nii.gz"}, "2 cases share an image: covid_2, cap_1"),
        ({"patient_id": "secret_covid_2", "fold": 1}, r"2 cases of one patient .*: covid_2 in 0, cap_1 in 1"),
    ],
)
def test_a_wrong_entry_is_named(write_list, changes, message):
    root = write_list(entry_of("covid_2"), entry_of("cap_1", **{"label": "cap", **changes}))
    with pytest.raises(ValueError, match=message) as caught:
        list_scans(root)
    assert "has 1 problem" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_entry_without_a_name_is_reported_by_its_number(write_list):
    with pytest.raises(ValueError, match=r'entry 2: is "cap". Expected an object'):
        list_scans(write_list(entry_of("covid_2"), "cap"))


def test_all_problems_are_reported_together(write_list, write_nifti):
    root = write_list(entry_of("covid_2"), entry_of("cap_1", label="cap"), entry_of("cap_3", label="CAPS"))
    write_nifti(root / "lungs" / "covid_2.nii.gz", np.zeros((6, 5, 7), dtype=np.uint8))
    write_nifti(root / "infections" / "cap_1.nii.gz", np.zeros((5, 6, 7), dtype=np.uint8), np.diag([-1.0, -1, 2, 1]))
    with pytest.raises(ValueError, match="has 3 problems") as caught:
        list_scans(root)
    message = str(caught.value)
    assert "Case cap_3: label is 'CAPS'" in message
    assert "Case covid_2: lung is 6 x 5 x 7 but the image is 5 x 6 x 7" in message
    assert "Case cap_1: infection is misaligned with the image by up to 6.0 mm" in message


@pytest.mark.parametrize("text", ["{", "[]", '{"training": []}', '{"cases": 3}'])
def test_a_file_that_is_not_a_datalist_is_an_error(tmp_path, text):
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(ValueError, match=r"Datalist .* (cannot be read as JSON|has no list of cases)"):
        list_scans(tmp_path)


def test_a_folder_without_datalist_is_an_error_with_the_command_that_creates_it(write_scans):
    root = write_scans()
    with pytest.raises(ValueError, match=rf"no datalist.json. .*custom_components build_datalist --dataset_dir {root}"):
        list_scans(root)
    with pytest.raises(ValueError, match="does not exist"):
        list_scans(root / "nowhere")


def test_an_empty_list_and_an_empty_folder_are_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"has no scans. Expected a NIfTI file"):
        list_scans(tmp_path, labelled=False)
    (tmp_path / "datalist.json").write_text('{"cases": []}')
    with pytest.raises(ValueError, match="has no scans"):
        list_scans(tmp_path)


def test_for_inference_a_datalist_gives_its_available_entries(write_list):
    bare = {"image": "images/cap_1.nii.gz", "ratio": None, "infection": ""}
    root = write_list(entry_of("covid_2", fold=None), bare)
    first, second = list_scans(root, labelled=False)
    assert sorted(first) == ["case_id", "image", "infection", "label", "lung", "ratio"]
    assert (first["label"], first["ratio"]) == (1, 0.0125)
    assert second == {"case_id": "cap_1", "image": str(root / "images" / "cap_1.nii.gz")}


def test_for_inference_masks_are_listed_if_there_are_any(write_scans):
    root = write_scans(("10", "9"), ("images", "lungs"))
    assert list_scans(root, labelled=False) == [
        {"case_id": name, "image": f"{root}/images/{name}.nii.gz", "lung": f"{root}/lungs/{name}.nii.gz"}
        for name in ("9", "10")
    ]
    (root / "lungs" / "9.nii.gz").unlink()
    with pytest.raises(ValueError, match="1 in images/ without a mask in lungs/: 9"):
        list_scans(root, labelled=False)


def test_for_inference_the_data_set_can_be_a_file_a_series_or_a_folder_of_them(tmp_path, write_nifti, write_series, hu):
    series = write_series(hu, name="scans/P010")
    file = write_nifti(tmp_path / "scans" / "P002.nii.gz", hu.astype(np.int16))
    (tmp_path / "scans" / "notes.txt").write_text("x")
    assert list_scans(file, labelled=False) == [{"case_id": "P002", "image": str(file)}]
    assert list_scans(series, labelled=False) == [{"case_id": "P010", "image": str(series)}]
    assert [scan["case_id"] for scan in list_scans(tmp_path / "scans", labelled=False)] == ["P002", "P010"]


@pytest.mark.parametrize("check_files", [True, False])
def test_a_2d_image_is_an_error(tmp_path, write_png, check_files):
    path = write_png(tmp_path / "012.png", np.zeros((6, 7)))
    with pytest.raises(ValueError, match=r"Case 012: 012.png is a 2D image. Expected a CT volume: NIfTI"):
        list_scans(path, labelled=False, check_files=check_files)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 1, 7)])
def test_a_volume_of_one_slice_is_an_error(tmp_path, write_nifti, shape):
    path = write_nifti(tmp_path / "012.nii", np.zeros(shape, dtype=np.int16))
    with pytest.raises(ValueError, match=r"Case 012: 012.nii is one slice \(6 x .*\). Expected a CT volume"):
        list_scans(path, labelled=False)


def test_images_are_listed_with_all_columns_and_any_label(write_list):
    entries = [
        {"case_id": "covid_2", "image": "images/covid_2.nii.gz", "label": "COVID", "fold": 3, "age": 41, "lung": ""},
        {"image": "images/cap_1.nii.gz", "label": 1, "patient_id": 7},
        {
            "case_id": "x",
            "image": "/elsewhere/x.nii.gz",
            "table": "lungs/cap_1.nii.gz",
            "note": "left/right",
            "site": "lungs",
        },
    ]
    root = write_list(*entries)
    first = {"case_id": "covid_2", "patient_id": "covid_2", "image": str(root / "images/covid_2.nii.gz")}
    assert list_images(root) == [
        {**first, "label": 1, "fold": 3, "age": 41},
        {"case_id": "cap_1", "patient_id": "7", "image": str(root / "images/cap_1.nii.gz"), "label": "1"},
        {
            **{"case_id": "x", "patient_id": "x", "image": "/elsewhere/x.nii.gz"},
            **{"table": str(root / "lungs/cap_1.nii.gz"), "note": "left/right", "site": "lungs"},
        },
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"case_id": "a"}], "Case a: has no 'image'"),
        ([{"case_id": "a", "image": "1.nii", "fold": "x"}], "Case a: fold is 'x'. Expected a whole number"),
        ([{"case_id": "a", "image": f"{k}.nii"} for k in range(2)], "1 case ids occur more than once: a"),
        ([{"case_id": f"{k}", "image": "1.nii"} for k in range(2)], "2 cases share an image: 0, 1"),
        (
            [{"case_id": f"{k}", "image": f"{k}.nii", "patient_id": "p", "fold": k} for k in range(2)],
            "2 cases of one patient are in different folds: 0 in 0, 1 in 1",
        ),
    ],
)
def test_problems_of_listed_images_name_the_case(write_list, entries, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        list_images(write_list(*entries))


def test_images_are_listed_from_datalists_with_cases_only(tmp_path):
    with pytest.raises(ValueError, match=r"is not a datalist. Give a JSON file"):
        list_images(tmp_path)
    (tmp_path / "datalist.json").write_text('{"cases": []}')
    with pytest.raises(ValueError, match="it has no cases"):
        list_images(tmp_path)


def test_normal_scans_are_a_class_only_if_asked_for(write_list):
    entries = (entry_of("covid_2"), entry_of("cap_1", label="normal", ratio=0.002, fold=1))
    with pytest.raises(
        ValueError, match=r"Case cap_1: label is 'normal', but there are two classes. Remove it, or see"
    ):
        list_scans(write_list(*entries))
    scans = list_scans(write_list(*entries), normals=True)
    assert [(scan["label"], scan["group"]) for scan in scans] == [(1, "covid_small"), (2, "normal")]
    with pytest.raises(ValueError, match=r"group is 'cap_small' but normal of ratio 0.002 is normal"):
        list_scans(write_list(entries[0], {**entries[1], "group": "cap_small"}), normals=True)
