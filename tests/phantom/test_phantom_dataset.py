import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import nibabel as nib
import numpy as np
import pytest
from custom_components.phantom import make_slice, phantom_dataset, write_slice_dataset, write_volume_dataset
from custom_components.phantom.dataset import window_grey
from PIL import Image


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return write_slice_dataset(tmp_path_factory.mktemp("slices"), num_slices=9, size=(44, 40), seed=3)


def cases(folder):
    return json.loads((folder / "datalist.json").read_text())["cases"]


def test_every_case_has_existing_files_with_relative_paths(slices):
    entries = cases(slices)
    assert [entry["case_id"] for entry in entries] == [f"{number:03d}" for number in range(9)]
    assert all(entry["synthetic"] is True for entry in entries)
    kinds = ("image", "label", "lung")
    assert [entries[4][kind] for kind in kinds] == ["images/004.png", "masks/004.png", "lungs/004.png"]
    assert all((slices / entry[kind]).is_file() for entry in entries for kind in kinds)


def test_rows_of_a_png_are_y_and_its_values_are_intensities_or_labels(slices):
    for entry in cases(slices):
        image, label, lung = (np.asarray(Image.open(slices / entry[kind])) for kind in ("image", "label", "lung"))
        assert image.shape == label.shape == lung.shape == (40, 44)
        assert image.dtype == label.dtype == np.uint8
        assert set(np.unique(label)) <= {0, 1, 2, 3}
        assert set(np.unique(lung)) == {0, 1}
        assert np.median(image[lung == 1]) > np.median(image[:3, :3])
        table_side = image[-8:].mean()
        assert table_side > image[:4].mean(), "the table lies at the bottom of the picture"


def test_png_intensities_are_the_lung_window():
    phantom = make_slice(0, (40, 36))
    hu = np.array([-2000.0, -1350.0, -1000.0, -600.0, -100.0, 150.0, 900.0], np.float32)
    phantom.image_hu[0, :7, 0] = hu
    assert window_grey(phantom)[0, :7, 0].tolist() == [0, 0, 60, 128, 212, 255, 255]


def test_2_to_4_consecutive_slices_are_of_one_patient(tmp_path):
    folder = write_slice_dataset(tmp_path / "groups", num_slices=14, size=(32, 33), seed=1)
    groups = [entry["group"] for entry in cases(folder)]
    assert groups == sorted(groups)
    sizes = np.unique(groups, return_counts=True)[1]
    assert sizes.min() >= 2
    assert sizes.max() <= 4


def test_the_same_seed_writes_the_same_files_and_another_seed_other_patients(tmp_path, slices):
    again = write_slice_dataset(tmp_path / "again", num_slices=9, size=(44, 40), seed=3)
    for path in sorted(slices.rglob("*.*")):
        assert (again / path.relative_to(slices)).read_bytes() == path.read_bytes()
    other = write_slice_dataset(tmp_path / "other", num_slices=9, size=(44, 40), seed=4)
    lungs = [{path.read_bytes() for path in (folder / "lungs").iterdir()} for folder in (slices, other)]
    assert not lungs[0] & lungs[1]


def test_nifti_slices_have_hu_and_their_pixel_size(tmp_path):
    folder = write_slice_dataset(tmp_path / "nifti", num_slices=2, size=(38, 33), suffix="nii.gz")
    image, label = (nib.load(folder / cases(folder)[1][kind]) for kind in ("image", "label"))
    assert image.shape == label.shape == (38, 33, 1)
    assert image.get_fdata().min() < -900
    np.testing.assert_allclose(image.header.get_zooms(), (10.0, 10.0, 5.0))


def test_each_volume_is_of_another_patient(tmp_path):
    folder = write_volume_dataset(tmp_path / "volumes", 3, (33, 34, 6), (11.0, 10.0, 45.0), seed=5)
    entries = cases(folder)
    assert len({entry["group"] for entry in entries}) == 3
    for entry in entries:
        image, label, lung = (nib.load(folder / entry[kind]) for kind in ("image", "label", "lung"))
        assert image.shape == label.shape == lung.shape == (33, 34, 6)
        np.testing.assert_allclose(image.header.get_zooms(), (11.0, 10.0, 45.0))


def test_a_folder_with_files_is_an_error_and_not_changed(slices):
    before = (slices / "datalist.json").read_bytes()
    with pytest.raises(ValueError, match=r"is not empty. Choose a new folder"):
        write_slice_dataset(slices, num_slices=2, size=(32, 32))
    assert (slices / "datalist.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": [96]}, r"size is \[96\]. Expected two numbers of pixels"),
        ({"suffix": "jpg"}, "suffix is 'jpg'. Expected one of png, nii.gz"),
        ({"num_slices": 0}, "num_slices is 0. Expected a whole number, 1 or more"),
        ({"num_slices": 3, "num_patients": 4}, "4 patients for 3 slices"),
        ({"seed": -1}, "seed is -1. Expected a whole number, 0 or more"),
        ({"num_patients": 0}, "num_patients is 0"),
    ],
)
def test_invalid_arguments_are_an_error_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_slice_dataset(tmp_path / "none", **arguments)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("num_slices", [1, 2, 5, 6])
def test_any_number_of_slices_can_be_assigned_to_patients(tmp_path, num_slices):
    folder = write_slice_dataset(tmp_path / "n", num_slices=num_slices, size=(32, 32))
    assert len(cases(folder)) == num_slices


def test_more_than_20_slices_show_their_progress(tmp_path, capsys):
    write_slice_dataset(tmp_path / "few", num_slices=3, size=(32, 32))
    assert capsys.readouterr().err == ""
    write_slice_dataset(tmp_path / "many", num_slices=21, size=(32, 32))
    assert "phantom" in capsys.readouterr().err


def test_the_cached_data_set_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_PHANTOM_CACHE", str(tmp_path))
    first = phantom_dataset(num_slices=2, size=(33, 34))
    written = (first / "images" / "001.png").stat().st_mtime_ns
    assert phantom_dataset(num_slices=2, size=(33, 34)) == first
    assert (first / "images" / "001.png").stat().st_mtime_ns == written
    assert phantom_dataset(num_slices=2, size=(33, 34), seed=1) != first
    assert all(not path.name.startswith(".partial") for path in tmp_path.iterdir())


def test_after_a_failed_write_the_cache_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_PHANTOM_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="at least 32"):
        phantom_dataset(num_slices=2, size=(8, 8))
    assert list(tmp_path.iterdir()) == []


def test_concurrent_processes_get_the_same_complete_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("COVID_PHANTOM_CACHE", str(tmp_path))
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        folders = list(pool.map(phantom_dataset, [5] * 3, [(64, 60)] * 3))
    assert len(set(folders)) == 1
    assert len(cases(folders[0])) == len(list((folders[0] / "images").iterdir())) == 5
    assert list(tmp_path.iterdir()) == [folders[0]]
