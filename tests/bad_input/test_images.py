"""Images whose voxels or geometry cannot be a chest CT, and masks that do not lie on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bad_input.data_sets import AFFINE, KINDS, cap_data, chest, save, seg_data
from tests.bad_input.places import cap_training, diagnosed
from tests.bad_input.row import TAKEN, Row
from tests.bad_input.test_files import CAP_INFER, CAP_TRAIN, INFER, TRAIN, Make

Volume = tuple[np.ndarray, np.ndarray]
Change = Callable[[np.ndarray, np.ndarray], Volume]
ALL = tuple(KINDS)


def seg(change: Change, *parts: str) -> Make:
    """Data set of covid_seg_bundle, image or mask or both of the bad case changed."""

    def make(folder: Path) -> Path:
        data, volumes = seg_data(folder / "data"), chest()
        for part, key in (("images", "image"), ("masks", "infection")):
            if part in (parts or ("images", "masks")):
                array, affine = change(volumes[key], AFFINE)
                save(array, data / part / "bad.nii.gz", affine)
        return data

    return make


def cap(change: Change, *kinds: str) -> Make:
    """Data set of covid_cap_bundle, some of the files of the bad case changed."""

    def make(folder: Path) -> Path:
        data = cap_data(folder / "data")
        for kind in kinds:
            array, affine = change(chest()[kind], AFFINE)
            save(array, data / KINDS[kind] / "bad.nii.gz", affine)
        return data

    return make


def alone(change: Change) -> Make:
    def make(folder: Path) -> Path:
        array, affine = change(chest()["image"], AFFINE)
        return save(array, folder / "in" / "bad.nii.gz", affine)

    return make


def with_voxel(value: float) -> Change:
    def change(array: np.ndarray, affine: np.ndarray) -> Volume:
        changed = array.astype(np.float32)
        changed[3, 4, 5] = value
        return changed, affine

    return change


def array_of(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda array, affine: (change(array), affine)


def column(number: int, values: Any) -> Change:
    """Another column of the affine."""

    def change(array: np.ndarray, affine: np.ndarray) -> Volume:
        changed = affine.copy()
        changed[:3, number] = values
        return array, changed

    return change


def scaled(factor: float) -> Change:
    return lambda array, affine: (array, np.diag([factor, factor, factor, 1]) @ affine)


def mirrored(array: np.ndarray, affine: np.ndarray) -> Volume:
    """The same place, stored the other way round along z."""
    turn = np.diag([1.0, 1, -1, 1])
    turn[2, 3] = array.shape[2] - 1
    return array[:, :, ::-1], affine @ turn


def sheared(array: np.ndarray, affine: np.ndarray) -> Volume:
    turn = np.eye(4)
    turn[1, 2] = np.tan(np.deg2rad(20)) * affine[2, 2] / affine[1, 1]
    return array, affine @ turn


def oblique(array: np.ndarray, affine: np.ndarray) -> Volume:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    return array, turn @ affine


def stored(array: np.ndarray) -> np.ndarray:
    """As a scanner stores it, without rescale: 24 to 1064."""
    return (array + 1024).astype(np.uint16)


def padded_lungs(array: np.ndarray) -> np.ndarray:
    """The field of view ends within one lung, in its lowest slice."""
    changed = array.copy()
    changed[2:6, 3:9, 1] = -3024
    return changed


def windowed(array: np.ndarray) -> np.ndarray:
    return np.clip((array + 1350.0) / 1500 * 255, 0, 255).astype(np.uint8)


def in_lungs(item: Any) -> bool:
    """The infection's mask lies on its voxels, of -400 HU (0.63 of the window) amid lung of -850 HU (0.33)."""
    image, infection = np.asarray(item["image"]), np.asarray(item["infection"]) > 0
    return bool(infection.any() and 0.5 < image[infection].mean() < 0.8)


def size_of(*size: int) -> Callable[[Any], bool]:
    return lambda item: tuple(item["native"].shape) == (1, *size)


SINGULAR = "Case bad: bad.nii.gz has a singular affine, so its voxel size or orientation is unknown: "
WARNED = "Case bad: values are "
NO_LUNGS = "no plausible lungs found: 0.00 litres. Expected 0.5 to 12. The image's values range from "
MEDIAN = "Case bad: median inside the lung mask is "
NO_CHEST = ". Expected a chest in HU, air below -200 and tissue above: "

ROWS = [
    Row(
        "nan",
        "NaN",
        TRAIN,
        "Case bad: 1 of 1,512 values are NaN or infinite. Expected finite values: ",
        seg(with_voxel(np.nan), "images"),
    ),
    Row(
        "infinite",
        "infinity",
        "diagnose",
        "1 of 1,512 values are NaN or infinite. Expected finite values: ",
        alone(with_voxel(np.inf)),
    ),
    Row(
        "constant",
        "the same value everywhere",
        INFER,
        f"{WARNED}77 to 77{NO_CHEST}",
        seg(array_of(lambda a: a * 0 + 77), "images"),
    ),
    Row("air", "only air", "diagnose", f"{NO_LUNGS}-1000 to -1000. ", alone(array_of(lambda a: a * 0 - 1000))),
    Row(
        "one_voxel",
        "one voxel",
        "diagnose",
        "the image is 1 x 1 x 1 voxels. Expected a CT volume of the whole chest.",
        alone(array_of(lambda a: a[:1, :1, :1])),
    ),
    Row(
        "one_slice",
        "one slice instead of a volume",
        CAP_TRAIN,
        "Case bad: bad.nii.gz is one slice (14 x 12 x 1). Expected a CT volume: ",
        cap(array_of(lambda a: a[:, :, 4:5]), *ALL),
    ),
    Row(
        "one_slice_inference",
        "the same, in an inference",
        CAP_INFER,
        "Case bad: the image is one slice (14 x 12 x 1). Expected a CT volume of the whole chest.",
        cap(array_of(lambda a: a[:, :, 4:5]), *ALL),
    ),
    Row(
        "tiny",
        "a slice of 8 x 8 pixels",
        TRAIN,
        f"{TAKEN}resampled like any other",
        seg(array_of(lambda a: a[2:10, 1:9, 3:4])),
        size_of(8, 8, 1),
    ),
    Row(
        "many_slices",
        "2,000 slices",
        TRAIN,
        f"{TAKEN}headers are read at the start, voxels when needed",
        seg(lambda a, affine: (np.resize(a.T, (2000, 12, 14)).T, affine @ np.diag([1, 1, 0.03, 1]))),
        size_of(14, 12, 2000),
    ),
    Row(
        "thick",
        "slices 10 mm apart",
        CAP_TRAIN,
        f"{TAKEN}resampled to the paper's grid",
        cap(column(2, (0, 0, 10.0)), *ALL),
        in_lungs,
    ),
    Row("no_spacing", "a voxel size of 0", TRAIN, f"image: {SINGULAR}", seg(column(1, 0))),
    Row("singular", "two parallel axes", CAP_INFER, SINGULAR, cap(column(1, (-24.0, 0, 0)), *ALL)),
    Row(
        "sheared",
        "axes sheared by 20 degrees",
        "diagnose",
        "the axes of bad.nii.gz are sheared by 20.0 degrees, at most 1 is allowed. "
        "Resample it to an orthogonal grid first",
        alone(sheared),
    ),
    Row("nan_affine", "an affine with NaN", "diagnose", SINGULAR.removeprefix("Case bad: "), alone(column(3, np.nan))),
    Row(
        "mirrored", "a left-handed affine", CAP_TRAIN, f"{TAKEN}reoriented by its affine", cap(mirrored, *ALL), in_lungs
    ),
    Row("oblique", "an oblique affine", CAP_TRAIN, f"{TAKEN}resampled along its axes", cap(oblique, *ALL), in_lungs),
    Row(
        "pixdim",
        "voxel sizes (pixdim) of 1 mm that contradict the sform",
        CAP_TRAIN,
        f"{TAKEN}the sform is used",
        cap(scaled(1.0), *ALL),
        in_lungs,
    ),
    Row(
        "metres",
        "an affine in metres",
        CAP_TRAIN,
        "image: Case bad: bad.nii.gz has voxels of 0.024 x 0.028 x 0.033 mm and is "
        "0.336 x 0.336 x 0.297 mm large. Expected 0.05 mm or more and 5000 mm or less: ",
        cap(scaled(0.001), *ALL),
    ),
    Row(
        "micrometres",
        "an affine in micrometres",
        "diagnose",
        "bad.nii.gz has voxels of 24000 x 28000 x 33000 mm and is 336000 x 336000 x 297000 mm large. Expected",
        alone(scaled(1000.0)),
    ),
    Row(
        "stored", "stored values, not rescaled", TRAIN, f"{WARNED}24 to 1064{NO_CHEST}", seg(array_of(stored), "images")
    ),
    Row(
        "stored_with_lungs",
        "the same, with a lung mask",
        CAP_TRAIN,
        f"{MEDIAN}174 HU. Expected -1000 to 0 HU; these look like stored values",
        cap(array_of(stored), "image"),
    ),
    Row("stored_alone", "the same, without any mask", "diagnose", f"{NO_LUNGS}24 to 1064. ", alone(array_of(stored))),
    Row(
        "windowed",
        "display intensities 0 to 255",
        INFER,
        f"{WARNED}59 to 236{NO_CHEST}",
        seg(array_of(windowed), "images"),
    ),
    Row(
        "windowed_with_lungs",
        "the same, with a lung mask",
        CAP_TRAIN,
        f"{MEDIAN}85 HU. Expected -1000 to 0 HU; these look like "
        "stored values without the rescale intercept (about -1024), or display intensities",
        cap(array_of(windowed), "image"),
    ),
    Row(
        "padding",
        "padding of -3024 outside the body",
        CAP_TRAIN,
        f"{TAKEN}clipped by the window",
        cap(array_of(lambda a: np.where(a == -1000, -3024, a).astype(np.int16)), "image"),
        in_lungs,
    ),
    Row(
        "padding_in_lungs",
        "padding of -3024 inside the lung mask",
        CAP_TRAIN,
        "Case bad: 7.1 % of the lung mask is below -1100 HU (down to -3024 HU). Expected at most 1 %: "
        "these voxels are scanner padding",
        cap(array_of(padded_lungs), "image"),
    ),
    Row(
        "sizes_differ",
        "a mask of another size",
        TRAIN,
        "Case bad: label is 13 x 12 x 9 but the image is 14 x 12 x 9. Export both at the same size",
        seg(array_of(lambda a: a[:-1]), "masks"),
    ),
    Row(
        "sizes_differ_inference",
        "the same, in an inference",
        CAP_INFER,
        "Case bad: lung is 13 x 12 x 9 but the image is 14 x 12 x 9. Export both at the same size.",
        cap(array_of(lambda a: a[:-1]), "lung"),
    ),
    Row(
        "places_differ",
        "a mask with another affine",
        CAP_TRAIN,
        "Case bad: lung is misaligned with the image by up to 30.0 mm. Copy the image's header (affine) into the mask",
        cap(column(3, (30.0, 0, 0)), "lung"),
    ),
    Row(
        "no_lung",
        "an empty lung mask",
        CAP_TRAIN,
        "Case bad: lung mask is empty (0 of 1,512 voxels). Check the mask file or segment the lungs again.",
        cap(array_of(lambda a: a * 0), "lung"),
    ),
    Row(
        "no_lung_checked",
        "the same, before a training",
        "check_datalist",
        "Case bad: lung mask is empty (0 of 1,512 voxels). Check the mask file or segment the lungs again.",
        cap(array_of(lambda a: a * 0), "lung"),
    ),
    Row(
        "outside",
        "an infection outside the lungs",
        CAP_INFER,
        "Case bad: 100.0 % of the infection (18 of 18 voxels) lies outside the lung mask. Expected at most 10 %. ",
        cap(array_of(lambda a: np.roll(a, 6, 1)), "infection"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_images(row, tmp_path, caplog):
    row.try_out(tmp_path, caplog)


def test_values_as_stored_are_told_once_more_where_no_lungs_are_found(tmp_path, caplog):
    with pytest.raises(SystemExit):
        diagnosed(alone(array_of(stored))(tmp_path))
    assert "Case bad: values are 24 to 1064. Expected a chest in HU" in caplog.text


def test_a_good_chest_is_taken_without_a_word(tmp_path, caplog):
    assert in_lungs(cap_training(cap_data(tmp_path / "data")))
    assert [record for record in caplog.records if record.name.startswith("custom_components")] == []
