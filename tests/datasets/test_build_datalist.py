import json
import logging

import numpy as np
import pytest
from custom_components.datalists.scans import list_scans
from custom_components.datasets.datalist import build_datalist, check_labelled
from custom_components.phantom import write_scan_dataset

AFFINE = np.diag([-0.5, -0.75, 2.0, 1.0])
LUNG_VOXELS = 40


def masks(infected, outside=0):
    """A scan of 5 x 6 x 7 voxels whose lungs have 40, with so many infected inside the lungs and outside."""
    flat = np.zeros((2, 5 * 6 * 7), dtype=np.uint8)
    flat[0, :LUNG_VOXELS] = 1
    flat[1, LUNG_VOXELS - infected : LUNG_VOXELS + outside] = 1
    lung, infection = flat.reshape(2, 5, 6, 7)
    return np.where(lung, -800, 40).astype(np.int16), lung, infection


@pytest.fixture
def write_scan(tmp_path, write_nifti):
    """Write one scan; each file can be changed."""

    def write(name, infected=1, folder="set", outside=0, **changes):
        arrays = dict(zip(("images", "lungs", "infections"), masks(infected, outside), strict=True)) | changes
        for part, array in arrays.items():
            write_nifti(tmp_path / folder / part / f"{name}.nii.gz", array, AFFINE)
        return tmp_path / folder

    return write


@pytest.fixture
def write_set(write_scan):
    """Six scans of four patients with their table."""

    def write():
        infected = {"covid_1": 1, "covid_2": 4, "covid_10": 2, "cap_1": 0, "cap_2": 8, "cap_3": 0}
        for name, count in infected.items():
            root = write_scan(name, count)
        patients = {"covid_1": "a", "covid_2": "a", "covid_10": "b", "cap_1": "c", "cap_2": "d", "cap_3": "d"}
        rows = [f"{name},{name.split('_')[0]},{patient},63" for name, patient in patients.items()]
        (root / "labels.csv").write_text("\n".join(["case_id,label,patient_id,age", *rows]) + "\n")
        return root

    return write


def entries(path):
    return json.loads(path.read_text())["cases"]


def test_ratio_group_and_fold_are_added_to_the_entries_of_the_table(write_set):
    root = write_set()
    path = build_datalist(root, num_folds=2)
    assert path == root / "datalist.json"
    names = [entry["case_id"] for entry in entries(path)]
    assert names == ["cap_1", "cap_2", "cap_3", "covid_1", "covid_2", "covid_10"]
    written = next(entry for entry in entries(path) if entry["case_id"] == "covid_1")
    assert {key: value for key, value in written.items() if key != "fold"} == {
        "case_id": "covid_1",
        "patient_id": "a",
        "image": "images/covid_1.nii.gz",
        "lung": "lungs/covid_1.nii.gz",
        "infection": "infections/covid_1.nii.gz",
        "label": "covid",
        "ratio": 1 / LUNG_VOXELS,
        "group": "covid_small",
        "age": "63",
    }
    assert {scan["case_id"]: (scan["ratio"], scan["group"]) for scan in list_scans(root)} == {
        "cap_1": (0, "cap_small"),
        "cap_2": (0.2, "cap_large"),
        "cap_3": (0, "cap_small"),
        "covid_1": (0.025, "covid_small"),
        "covid_2": (0.1, "covid_large"),
        "covid_10": (0.05, "covid_large"),
    }


def test_folds_keep_patients_together_and_have_both_classes(write_set):
    scans = list_scans(build_datalist(write_set(), num_folds=2, seed=3))
    fold_of = {scan["case_id"]: scan["fold"] for scan in scans}
    assert fold_of["covid_1"] == fold_of["covid_2"] != fold_of["covid_10"]
    assert fold_of["cap_2"] == fold_of["cap_3"] != fold_of["cap_1"]


def test_the_folds_of_a_table_are_kept(write_set):
    root = write_set()
    rows = ["covid_1,covid,3", "covid_10,covid,7", "cap_1,cap,7", "cap_2,cap,3", "covid_2,covid,7", "cap_3,cap,7"]
    (root / "labels.csv").write_text("\n".join(["case_id,label,fold", *rows]))
    scans = list_scans(build_datalist(root))
    assert [scan["fold"] for scan in scans] == [7, 3, 7, 3, 7, 7]


def test_the_rebuilt_datalist_of_a_phantom_equals_the_written_one(tmp_path):
    root = write_scan_dataset(tmp_path / "set", num_scans=6, shape=(40, 44, 20), spacing_mm=(9, 8.5, 14), num_folds=2)
    rows = [f"{entry['case_id']},{entry['label']},{entry['fold']}" for entry in entries(root / "datalist.json")]
    (root / "labels.csv").write_text("\n".join(["case_id,label,fold", *rows]))
    again = list_scans(build_datalist(root, root / "again.json"))
    known = sorted(list_scans(root), key=lambda scan: scan["case_id"])
    assert all(scan.pop("synthetic") for scan in known)  # labels.csv does not say so
    assert again == [{**scan, "patient_id": scan["case_id"]} for scan in known]


def test_a_table_elsewhere_may_name_files_of_any_name(tmp_path, write_set):
    root = write_set()
    (root / "images" / "cap_3.nii.gz").rename(tmp_path / "scan.nii.gz")
    lines = (root / "labels.csv").read_text().split()
    paths = ["image", *(f"set/images/{line.split(',')[0]}.nii.gz" for line in lines[1:-1]), "scan.nii.gz"]
    (tmp_path / "mine.csv").write_text("\n".join(f"{line},{path}" for line, path in zip(lines, paths, strict=True)))
    path = build_datalist(root, tmp_path / "lists" / "mine.json", tmp_path / "mine.csv", num_folds=2)
    third = next(scan for scan in list_scans(path) if scan["case_id"] == "cap_3")
    assert third["image"] == str(tmp_path / "scan.nii.gz")
    assert third["lung"] == str(root / "lungs" / "cap_3.nii.gz")


def test_images_may_be_series_and_masks_of_another_orientation(tmp_path, write_series, write_nifti):
    for name in "ab":
        image, lung, infection = masks(infected=10)
        write_series(image, name=f"set/images/{name}", origin_mm=(0, 0, 0), spacing_mm=(0.5, 0.75, 2.0))
        flipped = AFFINE * [1, 1, -1, 1] + [[0] * 4, [0] * 4, [0, 0, 0, 12], [0] * 4]
        write_nifti(tmp_path / f"set/lungs/{name}.nii", lung[:, :, ::-1], flipped)
        write_nifti(tmp_path / f"set/infections/{name}.nii", infection, AFFINE)
    (tmp_path / "set" / "labels.csv").write_text("case_id,label\na,covid\nb,cap\n")
    scans = list_scans(build_datalist(tmp_path / "set", num_folds=1))
    assert [(scan["label"], scan["ratio"], scan["fold"]) for scan in scans] == [(1, 0.25, 0), (0, 0.25, 0)]


def test_class_folders_replace_a_table(write_scan):
    for k in range(2):
        write_scan(f"a{k}", 1, "set/covid")
        root = write_scan(f"b{k}", 1, "set/cap").parent
    scans = list_scans(build_datalist(root, num_folds=2))
    assert [(scan["case_id"], scan["label"]) for scan in scans] == [("a0", 1), ("a1", 1), ("b0", 0), ("b1", 0)]
    assert {scan["patient_id"] for scan in scans} == {"a0", "a1", "b0", "b1"}


def test_problems_of_class_folders_name_the_class(write_scan):
    write_scan("a", 1, "set/covid")
    root = write_scan("a", 1, "set/cap").parent
    (root / "cap" / "lungs" / "a.nii.gz").unlink()
    with pytest.raises(ValueError, match="has 2 problems") as caught:
        build_datalist(root)
    assert "cap/: 1 in images/ without a mask in lungs/: a" in str(caught.value)
    assert "1 case ids occur more than once: a" in str(caught.value)


def test_all_problems_of_all_cases_are_reported_together_and_nothing_is_written(write_set, write_scan, write_nifti):
    root = write_set()
    write_scan("covid_1", 36, outside=4)
    write_scan("covid_2", 20, outside=5)
    write_scan("covid_10", lungs=np.zeros((5, 6, 7), dtype=np.uint8))
    write_scan("cap_1", infections=np.full((5, 6, 7), 3, dtype=np.uint8))
    write_nifti(root / "infections" / "unknown.nii", np.zeros((5, 6, 7), dtype=np.uint8))
    with (root / "labels.csv").open("a") as file:
        file.write("cap_4,cap,e,70\ncap_5,capp,f,71\n")
    with pytest.raises(ValueError, match=r"set has 8 problems") as caught:
        build_datalist(root)
    for problem in (
        "row 8 of labels.csv (cap_5): label is 'capp'",
        "2 in labels.csv without a file in images/: cap_4, cap_5",
        "2 in labels.csv without a file in lungs/: cap_4, cap_5",
        "1 in infections/ without a row in labels.csv: unknown",
        "Case covid_2: 20.0 % of the infection (5 of 25 voxels) lies outside the lung mask",
        "Case covid_10: lung mask is empty (0 of 210 voxels)",
        "Case cap_1: infection has 210 voxels that are neither 0 nor 1 (3)",
    ):
        assert problem in str(caught.value)
    assert not (root / "datalist.json").exists()


def test_an_hu_offset_and_a_misaligned_mask_are_found(write_set, write_scan, write_nifti):
    root = write_set()
    write_scan("cap_2", images=np.full((5, 6, 7), 224, dtype=np.int16))
    write_nifti(root / "lungs" / "cap_3.nii.gz", np.zeros((5, 7, 6), dtype=np.uint8), AFFINE)
    with pytest.raises(ValueError, match=r"set has 2 problems") as caught:
        build_datalist(root, num_folds=2)
    assert "Case cap_2: median inside the lung mask is 224 HU" in str(caught.value)
    assert "Case cap_3: lung is 5 x 7 x 6 but the image is 5 x 6 x 7" in str(caught.value)


def test_a_patient_in_two_folds_of_the_table_is_refused(write_set):
    root = write_set()
    text = (root / "labels.csv").read_text().replace("age", "fold").replace("63", "1")
    (root / "labels.csv").write_text(text.replace("covid_2,covid,a,1", "covid_2,covid,a,0"))
    with pytest.raises(ValueError, match="2 cases of one patient are in different folds: covid_1 in 1, covid_2 in 0"):
        build_datalist(root)


def test_folds_that_cannot_have_both_classes_are_refused(write_set):
    root = write_set()
    with pytest.raises(ValueError, match="2 COVID-19 and 2 CAP patients cannot make 5 folds"):
        build_datalist(root)
    rows = ["covid_1,covid,0", "covid_2,covid,0", "covid_10,covid,0", "cap_1,cap,1", "cap_2,cap,1", "cap_3,cap,1"]
    (root / "labels.csv").write_text("\n".join(["case_id,label,fold", *rows]))
    with pytest.raises(ValueError, match="Fold 0 trains on 0 COVID-19 and 3 CAP scans"):
        build_datalist(root)
    assert not (root / "datalist.json").exists()


def test_impossible_folds_are_refused_before_any_scan_is_read(write_set):
    root = write_set()
    for path in (root / "lungs").iterdir():
        path.write_bytes(b"unreadable")
    with pytest.raises(ValueError, match=r"^2 COVID-19 and 2 CAP patients cannot make 3 folds"):
        build_datalist(root, num_folds=3)


def test_a_datalist_is_never_overwritten(write_set):
    root = write_set()
    (root / "datalist.json").write_text("mine")
    (root / "labels.csv").unlink()
    with pytest.raises(ValueError, match=r"datalist.json exists and is not overwritten. .*--output"):
        build_datalist(root)
    assert (root / "datalist.json").read_text() == "mine"


def test_other_folders_are_rejected_with_the_expected_layouts(tmp_path):
    message = r"neither labels.csv nor covid/images/ and cap/images/. Expected images/, lungs/"
    with pytest.raises(ValueError, match=message):
        build_datalist(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        build_datalist(tmp_path / "nowhere")
    (tmp_path / "labels.csv").write_text("case_id,label\n")
    with pytest.raises(ValueError, match="has no cases"):
        build_datalist(tmp_path)


def test_folds_are_logged_without_patients_and_empty_masks_cause_a_warning(write_set, write_scan, caplog):
    root = write_set()
    write_scan("covid_2", infected=0)
    with caplog.at_level(logging.INFO):
        build_datalist(root, num_folds=1)
    assert "   0         4      6            2            1          2          1\n" in caplog.text
    assert " all         4      6            2            1          2          1" in caplog.text
    assert "1 COVID-19 cases have an empty infection mask: covid_2" in caplog.text


def test_folds_of_some_cases_only_are_refused():
    cases = [{"case_id": f"{k}", "patient_id": f"{k}", "label": k % 2, "fold": k // 2} for k in range(4)]
    check_labelled(cases, num_folds=5)  # the given folds count
    del cases[2]["fold"]
    with pytest.raises(ValueError, match=r"1 of 4 labelled cases have no fold: 2\. Give all a fold, or none"):
        check_labelled(cases, num_folds=2)
    for case in cases:
        case.pop("fold", None)
    check_labelled(cases, num_folds=2)
    with pytest.raises(ValueError, match="2 COVID-19 and 2 CAP patients cannot make 3 folds"):
        check_labelled(cases, num_folds=3)
