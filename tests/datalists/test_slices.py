import json

import numpy as np
import pytest
from custom_components.datalists.case_files import natural_key
from custom_components.datalists.slices import list_cases
from custom_components.images.ct_reader import LabelReader

from tests.yardstick import yardsticks


@pytest.fixture
def write_dataset(tmp_path, write_png):
    """A folder of images/ and masks/ of 6 x 7 pixels."""

    def write(names=("1", "2", "10"), folders=("images", "masks")):
        for folder in folders:
            for name in names:
                write_png(tmp_path / "set" / folder / f"{name}.png", np.zeros((6, 7)))
        return tmp_path / "set"

    return write


def write_json(folder, content):
    path = folder / "datalist.json"
    path.write_text(json.dumps(content))
    return path


def test_cases_of_a_folder_are_in_natural_order_with_absolute_paths(write_dataset, monkeypatch):
    root = write_dataset()
    cases = list_cases(root)
    assert [case["case_id"] for case in cases] == ["1", "2", "10"]
    files = {"image": str(root / "images" / "10.png"), "label": str(root / "masks" / "10.png")}
    assert cases[2] == {"case_id": "10", **files, "group": ""}
    monkeypatch.chdir(root.parent)
    assert list_cases("set") == cases
    write_dataset(folders=("lungs",))
    assert list_cases(root)[2] == {**cases[2], "lung": str(root / "lungs" / "10.png")}


def test_without_labels_masks_are_neither_required_nor_listed(write_dataset):
    root = write_dataset(folders=("images",))
    write_dataset(names=("2",), folders=("masks",))
    assert [sorted(case) for case in list_cases(root, require_labels=False)] == [["case_id", "group", "image"]] * 3


def test_all_problems_are_reported_together(write_dataset, write_png):
    root = write_dataset([f"{k:02d}" for k in range(20)])
    for k in range(7):
        (root / "masks" / f"{k:02d}.png").unlink()
    write_png(root / "masks" / "99.png", np.zeros((6, 7)))
    write_png(root / "masks" / "10.png", np.zeros((7, 6)))
    write_png(root / "images" / "11.png", np.zeros((6, 7)), "RGB")
    with pytest.raises(ValueError, match="has 4 problems") as caught:
        list_cases(root)
    message = str(caught.value)
    assert "7 in images/ without a mask in masks/: 00, 01, 02, 03, 04 and 2 more" in message
    assert "1 in masks/ without an image in images/: 99" in message
    assert "Case 10: label is 7 x 6 x 1 but the image is 6 x 7 x 1" in message
    assert "image: Case 11: 11.png is colour (RGB). Expected 8-bit greyscale" in message


def test_phantoms_keep_their_mark(write_dataset):
    root = write_dataset()
    entries = [
        {"image": f"images/{name}.png", "label": f"masks/{name}.png", **mark}
        for name, mark in {"1": {"synthetic": True}, "2": {"synthetic": False}, "10": {}}.items()
    ]
    path = root / "datalist.json"
    path.write_text(json.dumps({"cases": entries}))
    assert [case.get("synthetic") for case in list_cases(root)] == [True, None, None]
    path.write_text(json.dumps({"cases": [{**entries[0], "synthetic": "yes"}, *entries[1:]]}))
    with pytest.raises(ValueError, match=r"entry 1: synthetic is 'yes'. Expected true \(a phantom\) or false"):
        list_cases(root)


def test_only_ten_problems_are_shown(write_dataset, write_png):
    root = write_dataset([str(k) for k in range(14)])
    for k in range(14):
        write_png(root / "images" / f"{k}.png", np.zeros((5, 7)))
    with pytest.raises(ValueError, match="has 14 problems") as caught:
        list_cases(root)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  ... and 4 more"


def test_lung_masks_must_be_complete_and_have_the_size_of_the_image(write_dataset, write_png):
    root = write_dataset(folders=("images", "masks"))
    write_png(root / "lungs" / "1.png", np.zeros((5, 7)))
    with pytest.raises(ValueError, match="2 in images/ without a mask in lungs/: 2, 10") as caught:
        list_cases(root)
    assert "Case 1: lung is 5 x 7 x 1" in str(caught.value)


def test_two_files_of_the_same_name_are_an_error(write_dataset, write_nifti):
    root = write_dataset()
    write_nifti(root / "images" / "2.nii.gz", np.zeros((6, 7), dtype=np.int16))
    write_nifti(root / "masks" / "10.nii", np.zeros((6, 7), dtype=np.uint8))
    with pytest.raises(ValueError, match="1 case ids occur more than once: 2") as caught:
        list_cases(root)
    assert "1 in masks/ with more than one file of the same name: 10" in str(caught.value)


def test_an_image_and_its_mask_may_be_of_different_kinds_and_orientations(tmp_path, write_png, write_nifti):
    write_png(tmp_path / "set" / "images" / "a.png", np.zeros((6, 7)))
    write_nifti(tmp_path / "set" / "masks" / "a.nii.gz", np.zeros((6, 7), dtype=np.uint8))
    turned = np.array([[0, 0.5, 0, 3], [0.75, 0, 0, 5], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    flipped = np.array([[-0.5, 0, 0, 3 + 0.5 * 4], [0, 0.75, 0, 5], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    write_nifti(tmp_path / "set" / "images" / "b.nii", np.zeros((6, 5, 7), dtype=np.int16), turned)
    write_nifti(tmp_path / "set" / "masks" / "b.nii", np.zeros((5, 6, 7), dtype=np.uint8), flipped)
    assert len(list_cases(tmp_path / "set")) == 2


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 2, 1]), np.diag([-1.1, -1, 1, 1])])
def test_a_mask_at_another_position_is_an_error(tmp_path, write_nifti, affine):
    write_nifti(tmp_path / "images" / "a.nii", np.zeros((5, 6, 7), dtype=np.int16))
    write_nifti(tmp_path / "masks" / "a.nii", np.zeros((5, 6, 7), dtype=np.uint8), affine)
    with pytest.raises(ValueError, match=r"Case a: label is misaligned with the image by up to .* mm. Copy"):
        list_cases(tmp_path)


@pytest.mark.parametrize("name", ["images", "masks"])
def test_jpeg_files_are_reported_and_not_ignored(write_dataset, name):
    root = write_dataset()
    (root / name / "11.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="11"):
        list_cases(root)


def test_a_path_without_data_set_is_an_error_with_the_valid_layouts(tmp_path):
    with pytest.raises(ValueError, match=r"neither images/ nor datalist.json. Expected a folder with images/"):
        list_cases(tmp_path)
    with pytest.raises(ValueError, match="has no cases"):
        list_cases(tmp_path, require_labels=False)
    with pytest.raises(ValueError, match="does not exist"):
        list_cases(tmp_path / "nowhere")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="has no cases"):
        list_cases(tmp_path)


@pytest.mark.parametrize("key", ["cases", "training"])
def test_a_datalist_has_ids_groups_and_relative_paths(write_dataset, key):
    root = write_dataset()
    entries = [
        {"image": "images/2.png", "label": "masks/2.png", "group": 17, "case_id": "second"},
        {"image": str(root / "images" / "1.png"), "label": "masks/1.png", "group": None},
    ]
    path = write_json(root, {key: entries})
    cases = list_cases(root)
    assert cases == list_cases(path)
    assert [(case["case_id"], case["group"]) for case in cases] == [("second", "17"), ("1", "")]
    assert cases[0]["label"] == str(root / "masks" / "2.png")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "images/1.png"}, "entry 2: has no 'label'"),
        (
            {"image": "../set/images/1.png", "label": "masks/1.png"},
            "entry 2: path ../set/images/1.png is outside the datalist",
        ),
        ({"image": "images/7.png", "label": "masks/1.png"}, "Case 7: .*7.png does not exist"),
        ({"image": ["images/1.png"], "label": "masks/1.png"}, "entry 2: has the path .*Expected one string"),
        ({"image": "images/1.png", "label": "masks/1.png", "case_id": "../../x"}, "1 case ids cannot be file names"),
        ({"image": "images/1.png", "label": "masks/1.png", "lung": "masks/1.png"}, "1 of 2 entries have no 'lung'"),
        ({"image": "images/1.png", "label": "masks"}, "Case 1: label is a folder"),
        ("images/1.png", "entry 2: is .*Expected an object"),
    ],
)
def test_a_wrong_datalist_entry_is_an_error_that_names_it(write_dataset, entry, message):
    root = write_dataset()
    write_json(root, {"cases": [{"image": "images/2.png", "label": "masks/2.png"}, entry]})
    with pytest.raises(ValueError, match=message):
        list_cases(root)


@pytest.mark.parametrize("text", ["{", "[]", '{"validation": []}', '{"cases": 3}'])
def test_a_file_that_is_not_a_datalist_is_an_error(tmp_path, text):
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(ValueError, match=r"Datalist .* (cannot be read as JSON|has no list of cases)"):
        list_cases(tmp_path)


def test_images_without_masks_can_be_a_file_a_series_or_a_folder_of_them(tmp_path, write_png, write_series, hu):
    series = write_series(hu, name="scans/P002")
    write_series(hu, name="scans/P010", series_uid="1.2.4")
    slice_path = write_png(tmp_path / "scans" / "P001.png", np.zeros((6, 7)))
    (tmp_path / "scans" / "notes.txt").write_text("x")

    def ids(path):
        return [case["case_id"] for case in list_cases(path, require_labels=False)]

    assert ids(slice_path) == ["P001"]
    assert ids(series) == ["P002"]
    assert ids(tmp_path / "scans") == ["P001", "P002", "P010"]
    with pytest.raises(ValueError, match="neither images/ nor"):
        list_cases(tmp_path / "scans")


def test_numbers_in_names_are_sorted_by_value():
    names = ["b2", "10", "a", "9", "2a", "b10", "", "b²"]
    assert sorted(names, key=natural_key) == ["", "2a", "9", "10", "a", "b2", "b10", "b²"]


def test_listing_reads_only_headers(write_dataset):
    root = write_dataset([f"{k:03d}" for k in range(300)])
    assert yardsticks(lambda: list_cases(root)) < 4


@pytest.mark.real_data
def test_the_public_slices_are_listed_as_80_cases(real_data):
    cases = list_cases(real_data / "medseg100")
    assert [case["case_id"] for case in cases] == [f"{k:03d}" for k in range(80)]
    reader = LabelReader()
    values = {value for case in cases for value in np.unique(reader.get_data(reader.read(case["label"]))[0])}
    assert values == {0, 1, 2, 3, 255}
