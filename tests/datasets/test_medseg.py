import nibabel
import numpy as np
import pytest
from custom_components.datalists.slices import list_cases
from custom_components.datasets.medseg import convert_jpg, convert_medseg, pseudo_hu
from custom_components.images.ct_reader import CTReader, LabelReader
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2.0, -300], [0, 0, 0, 1]])


@pytest.fixture
def stacks(tmp_path, write_nifti):
    """Published stacks of 7 slices of 5 x 6 pixels; every voxel has its own HU, the mask is stored as floats."""
    hu = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7) - 1000.25
    labels = np.array([0, 1, 2, 3, 255])[np.arange(5 * 6 * 7).reshape(5, 6, 7) % 5]
    write_nifti(tmp_path / "tr_im.nii.gz", hu, AFFINE)
    write_nifti(tmp_path / "tr_mask.nii.gz", labels - 1e-5, AFFINE)
    return hu, labels


def convert(folder):
    return convert_medseg(folder / "tr_im.nii.gz", folder / "tr_mask.nii.gz", folder / "out")


def read(reader, path):
    array, meta = reader.get_data(reader.read(path))
    return array, meta["affine"]


@given(st.floats(0, 120), st.floats(1, 120))
def test_air_and_fat_get_their_hu(air_grey, difference):
    ends_hu = pseudo_hu(np.array([air_grey, air_grey + difference]), air_grey, air_grey + difference)
    np.testing.assert_allclose(ends_hu, [-1000, -100], atol=1e-3)


@pytest.mark.parametrize(("air_grey", "fat_grey"), [(100, 100), (200, 50)])
def test_air_must_be_darker_than_fat(air_grey, fat_grey):
    with pytest.raises(ValueError, match="Expected air darker than fat"):
        pseudo_hu(np.zeros(3), air_grey, fat_grey)


def test_a_stack_becomes_slices_with_their_hu_labels_and_places(tmp_path, stacks):
    hu, labels = stacks
    cases = list_cases(convert(tmp_path))
    assert [case["case_id"] for case in cases] == [f"{k:03d}" for k in range(7)]
    for k, case in enumerate(cases):
        image, affine = read(CTReader(), case["image"])
        np.testing.assert_array_equal(image, hu[..., k : k + 1])
        np.testing.assert_array_equal(read(LabelReader(), case["label"])[0], labels[..., k : k + 1])
        np.testing.assert_allclose(affine @ [1, 2, 0, 1], AFFINE @ [1, 2, k, 1])
    assert nibabel.load(cases[0]["label"]).get_data_dtype() == np.uint8


@pytest.mark.parametrize("value", [7, 0.5, -1])
def test_a_mask_value_that_is_not_a_label_is_rejected_and_nothing_is_written(tmp_path, stacks, write_nifti, value):
    labels = stacks[1].astype(float)
    labels[1, 2, 4] = value
    write_nifti(tmp_path / "tr_mask.nii.gz", labels, AFFINE)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=rf"tr_mask.nii.gz has {value} in slice 4, 1 such pixels"):
        convert(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_stacks_of_different_length_are_refused(tmp_path, stacks, write_nifti):
    write_nifti(tmp_path / "tr_mask.nii.gz", stacks[1][..., :6].astype(np.uint8), AFFINE)
    with pytest.raises(ValueError, match=r"\(5, 6, 7\) and tr_mask.nii.gz \(5, 6, 6\)"):
        convert(tmp_path)


def test_a_folder_with_content_is_never_written_into(tmp_path, stacks):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="exists and is not empty"):
        convert(tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.fixture
def jpgs(tmp_path):
    """A grey and a colour JPEG of 48 x 32 pixels, left part air (58), right part fat (212)."""
    grey = np.full((32, 48), 58, dtype=np.uint8)
    grey[:, 16:] = 212
    (tmp_path / "jpg").mkdir()
    Image.fromarray(grey).save(tmp_path / "jpg" / "a.jpg", quality=100)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "jpg" / "b.JPEG", quality=100)
    return tmp_path / "jpg"


def test_jpegs_become_slices_in_pseudo_hu_indexed_x_y(tmp_path, jpgs):
    cases = list_cases(convert_jpg(jpgs, tmp_path / "out", air_grey=58, fat_grey=212), require_labels=False)
    assert [case["case_id"] for case in cases] == ["a", "b"]
    for case in cases:
        image, affine = read(CTReader(), case["image"])
        assert image.shape == (48, 32, 1)
        np.testing.assert_allclose(image[:16], -1000, atol=12)
        np.testing.assert_allclose(image[16:], -100, atol=12)
        np.testing.assert_array_equal(affine, np.diag([-1, -1, 1, 1]))


def test_each_jpeg_has_the_intensities_of_its_table_row(tmp_path, jpgs):
    table = tmp_path / "greys.csv"
    table.write_text("name,air_grey,fat_grey\na.jpg,58,212\nb,0,212\n")
    out = convert_jpg(jpgs, tmp_path / "out", table=table)
    first, second = (read(CTReader(), out / "images" / f"{name}.nii.gz")[0] for name in "ab")
    assert first[0, 0, 0] == pytest.approx(-1000, abs=12)
    assert second[0, 0, 0] == pytest.approx(-1000 + 900 * 58 / 212, abs=12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,air_grey,fat_grey\na.jpg,58,212\n", "1 images are not in .*greys.csv: b.JPEG"),
        ("name,air\na,58\n", "Expected CSV with the columns name, air_grey, fat_grey"),
        ("name,air_grey,fat_grey\na,58,dark\n", "cannot be read"),
        ("name,air_grey,fat_grey\na,58,212\nb,212,58\n", "Image b.JPEG: .*Expected air darker than fat"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, jpgs, text, message):
    (tmp_path / "greys.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_jpg(jpgs, tmp_path / "out", table=tmp_path / "greys.csv")
    assert not (tmp_path / "out").exists()


def test_jpegs_need_two_intensities_and_valid_files(tmp_path, jpgs):
    with pytest.raises(ValueError, match="Set both, or give a table"):
        convert_jpg(jpgs, tmp_path / "out", air_grey=58)
    with pytest.raises(ValueError, match=r"has no .jpg files"):
        convert_jpg(tmp_path, tmp_path / "out", 58, 212)
    with pytest.raises(ValueError, match="is not a folder"):
        convert_jpg(tmp_path / "nowhere", tmp_path / "out", 58, 212)
    (jpgs / "c.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"c.jpg is truncated or not a JPEG"):
        convert_jpg(jpgs, tmp_path / "out", 58, 212)
