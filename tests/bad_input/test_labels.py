"""Masks with values that mean nothing, labels of diseases, folds, ratios, and the tables they come in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bad_input.data_sets import cap_data, chest, save, seg_data
from tests.bad_input.row import Input, Make, rows_of
from tests.bad_input.test_files import in_cases, no_archive, runs
from tests.bad_input.test_images import in_lungs

TABLE = "case_id,label\nbad,covid\ncovid_1,covid\ncovid_2,covid\ncap_0,cap\ncap_1,cap\n"
INTENSITIES = "name,air_grey,fat_grey\n"


def mask(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    def make(folder: Path) -> Path:
        data = seg_data(folder / "data")
        save(change(chest()["infection"]), data / "masks" / "bad.nii.gz")
        return data

    return make


def every_mask(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    def make(folder: Path) -> Path:
        data = seg_data(folder / "data")
        for path in (data / "masks").iterdir():
            save(change(chest()["infection"]), path)
        return data

    return make


def cap_masks(change: Callable[[np.ndarray], np.ndarray], *kinds: str) -> Make:
    """The bad case's masks of these kinds, or both, with a change."""

    def make(folder: Path) -> Path:
        data = cap_data(folder / "data")
        for kind in kinds or ("lung", "infection"):
            save(change(chest()[kind]), data / f"{kind}s" / "bad.nii.gz")
        return data

    return make


def ignored_beside(array: np.ndarray) -> np.ndarray:
    array = array * 255
    array[3, 4, 3] = 1
    return array


def seven(array: np.ndarray) -> np.ndarray:
    array[2:5, 3, 2] = 7
    return array


def exchanged(fill: Callable[[Path], Path], first: str, second: str) -> Make:
    """Two files of the bad case in each other's place."""

    def make(folder: Path) -> Path:
        data = fill(folder / "data")
        one, other = data / first / "bad.nii.gz", data / second / "bad.nii.gz"
        one.rename(folder / "kept")
        other.rename(one)
        (folder / "kept").rename(other)
        return data

    return make


def relisted(change: Callable[[list[dict[str, Any]]], Any]) -> Make:
    """The datalist of covid_cap_bundle with a change."""

    def make(folder: Path) -> Path:
        data = cap_data(folder / "data")
        content = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
        change(content["cases"])
        (data / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
        return data

    return make


def without(key: str) -> Make:
    return relisted(lambda cases: cases[0].pop(key))


def one_class(cases: list[dict[str, Any]]) -> None:
    cases[:] = [case for case in cases if case["label"] == "covid" or case["fold"] != 1]


def table(text: str, encoding: str = "utf-8") -> Make:
    """The scans with a table in place of a datalist."""

    def make(folder: Path) -> Path:
        data = cap_data(folder / "data")
        (data / "datalist.json").unlink()
        (data / "labels.csv").write_text(text, encoding=encoding)
        return data

    return make


def intensity_table(text: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "jpg").mkdir()
        Image.fromarray(np.zeros((6, 5), np.uint8)).save(folder / "jpg" / "bad.jpg")
        (folder / "intensities.csv").write_text(INTENSITIES + text)
        return folder

    return make


def stack(value: float) -> Make:
    def make(folder: Path) -> Path:
        published = chest()["infection"].astype(np.float32)
        published[3, 5, 3] = value
        save(chest()["image"], folder / "tr_im.nii.gz")
        save(published, folder / "tr_mask.nii.gz")
        return folder

    return make


def holds(value: int) -> Callable[[Any], bool]:
    return lambda item: bool((item["label"] == value).all())


def mirrored_volumes(folder: Path) -> Path:
    """One volume of Zenodo 3757476 whose masks are upside down."""
    names = {"image": "COVID-19-CT-Seg_20cases", "lung": "Lung_Mask", "infection": "Infection_Mask"}
    arrays = {**chest(), "image": np.roll(chest()["image"], 1, axis=2)}
    for key, name in names.items():
        array = arrays[key] if key == "image" else np.flip(np.roll(arrays[key], 1, axis=2), 2)
        save(array, folder / "published" / name / "coronacases_001.nii.gz")
    return folder


INPUTS: dict[str, Input] = {
    "unknown_value": mask(seven),
    "fractions": mask(lambda a: a * np.float32(0.5)),
    "negative": mask(lambda a: -a.astype(np.int16)),
    "empty_mask": (mask(lambda a: a * 0), holds(0)),
    "all_ignored": (mask(lambda a: a * 0 + 255), holds(255)),
    "all_0_255": every_mask(lambda a: a * 255),
    "no_lesions": every_mask(lambda a: a * 0),
    "image_as_mask": exchanged(seg_data, "images", "masks"),
    "masks_exchanged": exchanged(cap_data, "lungs", "infections"),
    "masks_0_255": (cap_masks(lambda a: a * 255), in_lungs),
    "masks_0_1_255": cap_masks(ignored_beside, "infection"),
    "image_as_lung": exchanged(cap_data, "images", "lungs"),
    "published_fraction": stack(0.5),
    "published_mirrored": mirrored_volumes,
    "label_unknown": in_cases(label="flu"),
    "label_number": in_cases(label=1),
    "label_missing": without("label"),
    "label_upper_case": (in_cases(label=" COVID "), lambda item: item["label"] == 1),
    "fold_of_one_class": relisted(one_class),
    "patient_in_two_folds": in_cases(patient_id="covid_1"),
    "fold_missing": without("fold"),
    "fold_negative": in_cases(fold=-1),
    "fold_fraction": in_cases(fold=1.5),
    "fold_huge": in_cases(fold=10**400),
    "ratio_above_1": in_cases(ratio=1.2),
    "ratio_huge": in_cases(ratio=10**400),
    "ratio_text": in_cases(ratio="0.1"),
    "ratio_of_no_masks": in_cases(ratio=0.02),
    "group_contradicts": in_cases(group="cap_small"),
    "table_semicolons": table("a;b\n1;2\n"),
    "table_utf_16": table(TABLE, "utf-16"),
    "table_label": table(TABLE + "cap_2,flu\n"),
    "table_lacks_scan": table(TABLE),
    "table_fold_digits": table("case_id,label,fold\nbad,covid," + "9" * 5000 + "\n"),
    "table_way_out": table("case_id,label,image\nbad,covid,../../x.nii\n"),
    "intensity_infinite": intensity_table("bad,-inf,3\n"),
    "intensity_table_long": intensity_table("x" * 200_000 + ",2,3\n"),
    "runs_long": runs(no_archive, "name\n" + "x" * 200_000 + "\n"),
    "runs_columns": runs(no_archive, "name\nvolume_0007,1.5\n"),
}


@pytest.mark.parametrize("row", rows_of("Labels"), ids=lambda row: row.name)
def test_labels(row, tmp_path, caplog):
    row.check(INPUTS[row.name], tmp_path, caplog)
