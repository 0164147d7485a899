import csv
import json

import nibabel
import numpy as np
import pytest
from custom_components.datalists.folds import hold_out_fold
from custom_components.datalists.scans import list_scans
from custom_components.datasets.covid20_slices import convert_covid20_slices, equalized_to_hu, seams
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.real_data import real_data

SIZE = (48, 64)
AIR, LUNG, INFECTED, TISSUE, BONE = 30, 60, 100, 150, 255


def run_of(slices=6):
    """Slices (rows, columns) of a body with one lung, an infection and a bone."""
    rows, columns = np.indices(SIZE)
    grey = np.full(SIZE, AIR)
    grey[6:42, 6:58] = TISSUE
    lung = ((rows - 20) / 10) ** 2 + ((columns - 20) / 9) ** 2 < 1
    infection = lung & (rows > 24)
    grey = np.where(lung, LUNG, grey)
    grey = np.where(infection, INFECTED, grey)
    grey[36:39, 40:44] = BONE
    stack = [array.repeat(slices, 0).astype(np.uint8) for array in (grey[None], lung[None], infection[None])]
    return dict(zip(("ct", "lung", "infection"), stack, strict=True))


def write(folder, name, run):
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", **run)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "runs"
    write(folder, "volume_0007", run_of(6))
    two = {key: np.concatenate([value, np.roll(run_of(4)[key], 24, axis=1)]) for key, value in run_of(3).items()}
    write(folder, "volume_0013", two)
    return folder


def table_of(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, sorted({key for row in rows for key in row}))
        table.writeheader()
        table.writerows(rows)
    return path


def load(folder, kind, name):
    image = nibabel.load(folder / kind / f"{name}.nii.gz")
    return np.asarray(image.dataobj), image.affine


def test_runs_become_scans_for_a_training(tmp_path, source):
    datalist = convert_covid20_slices(source, tmp_path / "set", num_folds=3)
    scans = list_scans(datalist)
    assert [scan["case_id"] for scan in scans] == ["volume_0007", "volume_0013_1", "volume_0013_2"]
    assert {scan["label"] for scan in scans} == {1}
    run = run_of()
    assert scans[0]["ratio"] == pytest.approx(run["infection"].sum() / run["lung"].sum(), abs=1e-6)
    assert len(hold_out_fold(scans, 0)["training"]) == 2


def test_a_single_slice_is_skipped_with_a_warning(tmp_path, source, caplog):
    """The other scans keep their names, and a table may still name it."""
    alone = np.roll(run_of(1)["ct"], 24, axis=1)
    cut = {key: np.concatenate([value, alone if key == "ct" else value[:1] * 0]) for key, value in run_of(3).items()}
    write(source, "volume_0021", cut)
    table = table_of(tmp_path / "t.csv", [{"name": "volume_0021_2", "slice_mm": "5"}])
    datalist = convert_covid20_slices(source, tmp_path / "set", table=table, num_folds=4)
    names = ["volume_0007", "volume_0013_1", "volume_0013_2", "volume_0021_1"]
    assert [scan["case_id"] for scan in list_scans(datalist)] == names
    assert sorted(path.name for path in (tmp_path / "set" / "images").iterdir()) == [f"{name}.nii.gz" for name in names]
    assert "1 scans with a single slice were skipped: volume_0021_2." in caplog.text


def test_only_single_slices_are_rejected(tmp_path):
    write(tmp_path / "runs", "volume_0001", run_of(1))
    with pytest.raises(ValueError, match=r"has only single slices: volume_0001. Expected runs of two or more"):
        convert_covid20_slices(tmp_path / "runs", tmp_path / "set", num_folds=1)
    assert not (tmp_path / "set").exists()


def test_voxels_keep_their_place_and_the_axes_are_named(tmp_path, source):
    convert_covid20_slices(source, tmp_path / "set", (1.4, 1.6, 2.5), num_folds=1)
    mask, affine = load(tmp_path / "set", "infections", "volume_0013_1")
    np.testing.assert_array_equal(mask, run_of(3)["infection"].transpose(2, 1, 0))
    assert nibabel.aff2axcodes(affine) == ("L", "P", "S")
    np.testing.assert_allclose(nibabel.affines.voxel_sizes(affine), (1.4, 1.6, 2.5), rtol=1e-6)
    np.testing.assert_allclose(affine @ [*(np.array(mask.shape) - 1) / 2, 1], [0, 0, 0, 1], atol=1e-4)
    assert np.array_equal(load(tmp_path / "set", "images", "volume_0013_1")[1], affine)


def test_a_table_overrides_the_defaults(tmp_path, source):
    rows = [
        {"name": "volume_0013_1", "patient_id": "b", "slice_mm": "8", "rows_to": "A"},
        {"name": "volume_0013_2", "patient_id": "b", "slice_mm": "", "rows_to": ""},
    ]
    datalist = convert_covid20_slices(source, tmp_path / "set", table=table_of(tmp_path / "t.csv", rows), num_folds=2)
    cases = json.loads(datalist.read_text(encoding="utf-8"))["cases"]
    assert [case["patient_id"] for case in cases] == ["volume_0007", "b", "b"]
    assert [case["fold"] for case in cases] == [0, 1, 1]
    turned, straight = (load(tmp_path / "set", "images", f"volume_0013_{k}")[1] for k in (1, 2))
    assert nibabel.aff2axcodes(turned) == ("L", "A", "S")
    assert nibabel.aff2axcodes(straight) == ("L", "P", "S")
    assert (turned[2, 2], straight[2, 2]) == (8, 1.5)


def test_landmarks_get_their_hu_and_the_order_of_intensities_is_kept():
    run = run_of()
    hu = equalized_to_hu(run["ct"], run["lung"], run["infection"])
    for grey, wanted in ((AIR, -1000), (LUNG, -860), (TISSUE, -100), (BONE, 700)):
        assert np.unique(hu[run["ct"] == grey]) == wanted
    assert hu[run["ct"] == INFECTED].max() == pytest.approx(-860 + 40 / 90 * 760, abs=0.1)


@given(st.integers(0, 50), st.integers(52, 80), st.integers(120, 200))
def test_the_curve_is_increasing_for_any_intensities(air, lung, tissue):
    run = run_of(2)
    greys = dict(zip((AIR, LUNG, INFECTED, TISSUE, BONE), (air, lung, (lung + tissue) // 2, tissue, 255), strict=True))
    grey = np.vectorize(greys.get)(run["ct"]).astype(np.uint8)
    hu = equalized_to_hu(grey, run["lung"], run["infection"])
    known = sorted((value, hu[grey == value][0]) for value in np.unique(grey))
    assert np.all(np.diff([value for _, value in known]) > 0)
    assert hu.min() >= -1024


def test_a_lung_mask_outside_the_lungs_is_rejected(tmp_path, source):
    run = run_of()
    write(source, "volume_0009", {**run, "lung": np.roll(run["lung"], 26, axis=2), "infection": run["lung"] * 0})
    with pytest.raises(ValueError, match="Case volume_0009: Intensities of air, lung"):
        convert_covid20_slices(source, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_slices_without_a_seam_are_one_scan():
    noise = ndimage.gaussian_filter1d(np.random.default_rng(0).normal(size=(9, 32, 40)), 2.0, axis=0)
    assert seams(run_of(7)["ct"]) == []
    assert seams(np.concatenate([100 + noise, -(100 + noise)])) == [9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lung": np.zeros((6, 5, 5), np.uint8)}, r"lung uint8 \(6, 5, 5\).*Expected uint8 of one shape"),
        ({"ct": np.zeros((6, *SIZE), np.float32)}, "ct float32"),
        ({"infection": np.full((6, *SIZE), 2, np.uint8)}, "infection goes up to 2"),
    ],
)
def test_a_file_that_is_not_a_run_is_rejected(tmp_path, source, change, message):
    write(source, "volume_0008", {**run_of(), **change})
    with pytest.raises(ValueError, match=message):
        convert_covid20_slices(source, tmp_path / "set")


def test_a_broken_file_is_named(tmp_path, source):
    (source / "volume_0001.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"volume_0001\.npz cannot be read"):
        convert_covid20_slices(source, tmp_path / "set")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_folds": 4}, "num_folds is 4. Expected 1 to 3, the number of patients"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm is"),
        ({"spacing_mm": (0.001, 0.001, 0.001)}, "Case volume_0007: .* has voxels of 0.001 x .* write the header in mm"),
    ],
)
def test_invalid_arguments_are_rejected(tmp_path, source, given, message):
    with pytest.raises(ValueError, match=message):
        convert_covid20_slices(source, tmp_path / "set", **given)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "volume_9999"}, "names volume_9999, but .* has no such scan"),
        ({"name": "volume_0007", "rows_to": "up"}, "rows_to is 'up'. Expected P"),
        ({"name": "volume_0007", "thickness": "2"}, "Expected name, patient_id"),
    ],
)
def test_an_invalid_table_is_rejected(tmp_path, source, row, message):
    table = table_of(tmp_path / "t.csv", [row])
    with pytest.raises(ValueError, match=message):
        convert_covid20_slices(source, tmp_path / "set", table=table, num_folds=1)


def test_no_folder_is_overwritten_and_an_empty_source_is_named(tmp_path, source):
    convert_covid20_slices(source, tmp_path / "set", num_folds=1)
    with pytest.raises(ValueError, match="not empty"):
        convert_covid20_slices(source, tmp_path / "set", num_folds=1)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"has no volume_\*.npz"):
        convert_covid20_slices(tmp_path / "none", tmp_path / "other")


@pytest.mark.real_data
def test_two_of_the_public_runs_contain_two_patients_each(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("volume_0279", "volume_0510"):
        (folder / f"{name}.npz").symlink_to(real_data("covid20_slices") / f"{name}.npz")
    scans = list_scans(convert_covid20_slices(folder, tmp_path / "set", num_folds=3))
    assert [scan["case_id"] for scan in scans] == ["volume_0279_1", "volume_0279_2", "volume_0510"]
    for scan in scans:
        hu, lung, infection = (np.asarray(nibabel.load(scan[key]).dataobj) for key in ("image", "lung", "infection"))
        assert np.median(hu[(lung > 0) & (infection == 0)]) == pytest.approx(-860, abs=15)
        assert -800 < np.median(hu[infection > 0]) < 50
