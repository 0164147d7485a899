"""Images whose voxels or geometry cannot be a chest CT, and masks that do not lie on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bad_input.data_sets import AFFINE, KINDS, cap_data, chest, save, seg_data
from tests.bad_input.places import cap_training, diagnosed
from tests.bad_input.row import Input, Make, rows_of

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


INPUTS: dict[str, Input] = {
    "nan": seg(with_voxel(np.nan), "images"),
    "infinite": alone(with_voxel(np.inf)),
    "constant": seg(array_of(lambda a: a * 0 + 77), "images"),
    "air": alone(array_of(lambda a: a * 0 - 1000)),
    "one_voxel": alone(array_of(lambda a: a[:1, :1, :1])),
    "one_slice": cap(array_of(lambda a: a[:, :, 4:5]), *ALL),
    "one_slice_inference": cap(array_of(lambda a: a[:, :, 4:5]), *ALL),
    "tiny": (seg(array_of(lambda a: a[2:10, 1:9, 3:4])), size_of(8, 8, 1)),
    "many_slices": (
        seg(lambda a, affine: (np.resize(a.T, (2000, 12, 14)).T, affine @ np.diag([1, 1, 0.03, 1]))),
        size_of(14, 12, 2000),
    ),
    "thick": (cap(column(2, (0, 0, 10.0)), *ALL), in_lungs),
    "no_spacing": seg(column(1, 0)),
    "singular": cap(column(1, (-24.0, 0, 0)), *ALL),
    "sheared": alone(sheared),
    "nan_affine": alone(column(3, np.nan)),
    "mirrored": (cap(mirrored, *ALL), in_lungs),
    "oblique": (cap(oblique, *ALL), in_lungs),
    "pixdim": (cap(scaled(1.0), *ALL), in_lungs),
    "metres": cap(scaled(0.001), *ALL),
    "micrometres": alone(scaled(1000.0)),
    "stored": seg(array_of(stored), "images"),
    "stored_with_lungs": cap(array_of(stored), "image"),
    "stored_alone": alone(array_of(stored)),
    "windowed": seg(array_of(windowed), "images"),
    "windowed_with_lungs": cap(array_of(windowed), "image"),
    "padding": (cap(array_of(lambda a: np.where(a == -1000, -3024, a).astype(np.int16)), "image"), in_lungs),
    "padding_in_lungs": cap(array_of(padded_lungs), "image"),
    "sizes_differ": seg(array_of(lambda a: a[:-1]), "masks"),
    "sizes_differ_inference": cap(array_of(lambda a: a[:-1]), "lung"),
    "places_differ": cap(column(3, (30.0, 0, 0)), "lung"),
    "no_lung": cap(array_of(lambda a: a * 0), "lung"),
    "no_lung_checked": cap(array_of(lambda a: a * 0), "lung"),
    "outside": cap(array_of(lambda a: np.roll(a, 6, 1)), "infection"),
}


@pytest.mark.parametrize("row", rows_of("Images"), ids=lambda row: row.name)
def test_images(row, tmp_path, caplog):
    row.check(INPUTS[row.name], tmp_path, caplog)


def test_stored_values_are_also_warned_of_where_no_lungs_are_found(tmp_path, caplog):
    with pytest.raises(SystemExit):
        diagnosed(alone(array_of(stored))(tmp_path))
    assert "Case bad: values are 24 to 1064. Expected a chest in HU" in caplog.text


def test_a_good_chest_is_accepted_without_a_warning(tmp_path, caplog):
    assert in_lungs(cap_training(cap_data(tmp_path / "data")))
    assert [record for record in caplog.records if record.name.startswith("custom_components")] == []
