"""Masks with values that mean nothing, labels of diseases, folds, ratios, and the tables they come in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bad_input.data_sets import cap_data, chest, save, seg_data
from tests.bad_input.row import TAKEN, Row
from tests.bad_input.test_files import CAP_TRAIN, TRAIN, Make, in_cases, no_archive, runs
from tests.bad_input.test_images import in_lungs

TABLE = "case_id,label\nbad,covid\ncovid_1,covid\ncovid_2,covid\ncap_0,cap\ncap_1,cap\n"
GREYS = "name,air_grey,fat_grey\n"


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


def greys(text: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "jpg").mkdir()
        Image.fromarray(np.zeros((6, 5), np.uint8)).save(folder / "jpg" / "bad.jpg")
        (folder / "greys.csv").write_text(GREYS + text)
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


VALUE = "Case bad: label has value "
FOLD = "Expected a whole number, 0 or more"
BUILD = "Create the datalist with: python -m custom_components build_datalist"
CLASSES = "Expected 'covid' (COVID-19) or 'cap' (community-acquired pneumonia)"
RATIO = "Case bad: infection ratio is "


def mirrored_volumes(folder: Path) -> Path:
    """One volume of Zenodo 3757476 whose masks are upside down."""
    names = {"image": "COVID-19-CT-Seg_20cases", "lung": "Lung_Mask", "infection": "Infection_Mask"}
    arrays = {**chest(), "image": np.roll(chest()["image"], 1, axis=2)}
    for key, name in names.items():
        array = arrays[key] if key == "image" else np.flip(np.roll(arrays[key], 1, axis=2), 2)
        save(array, folder / "published" / name / "coronacases_001.nii.gz")
    return folder


ROWS = [
    Row(
        "unknown_value",
        "a value that is not a class",
        TRAIN,
        f"{VALUE}7 at 3 pixels. Expected 0 (background), 1 (ground glass), ",
        mask(seven),
    ),
    Row(
        "fractions",
        "fractions, from a resampled mask",
        TRAIN,
        f"{VALUE}0.5 at 18 pixels. Expected 0 (background), ",
        mask(lambda a: a * np.float32(0.5)),
    ),
    Row("negative", "a negative value", TRAIN, f"{VALUE}-1 at 18 pixels. ", mask(lambda a: -a.astype(np.int16))),
    Row("empty_mask", "an empty mask", TRAIN, f"{TAKEN}a slice without lesions", mask(lambda a: a * 0), holds(0)),
    Row(
        "all_ignored",
        "a mask with only 255",
        TRAIN,
        f"{TAKEN}loss and scores ignore these pixels",
        mask(lambda a: a * 0 + 255),
        holds(255),
    ),
    Row(
        "all_0_255",
        "all masks have only 0 and 255",
        "seg: start of a training, evaluation",
        "No label map has a lesion class, and 2 contain 255, the ignored value: bad, good. Expected 1 (ground",
        every_mask(lambda a: a * 255),
    ),
    Row(
        "no_lesions",
        "no lesion in any mask",
        "seg: start of a training, evaluation",
        "None of the 2 training cases has a lesion (1 (ground glass), 2 (consolidation), 3 (pleural effusion)) in its",
        every_mask(lambda a: a * 0),
    ),
    Row(
        "image_as_mask",
        "image and mask exchanged",
        TRAIN,
        f"{VALUE}-1000 at 432 pixels (and 3 more such values). Expected",
        exchanged(seg_data, "images", "masks"),
    ),
    Row(
        "masks_exchanged",
        "lung and infection mask exchanged",
        CAP_TRAIN,
        "Case bad: 94.6 % of the infection (318 of 336 voxels) lies outside the lung mask. ",
        exchanged(cap_data, "lungs", "infections"),
    ),
    Row(
        "masks_0_255",
        "lung and infection mask of 0 and 255",
        CAP_TRAIN,
        f"{TAKEN}as 0 and 1",
        cap_masks(lambda a: a * 255),
        in_lungs,
    ),
    Row(
        "masks_0_1_255",
        "an infection mask of 0, 1 and 255",
        CAP_TRAIN,
        "Case bad: infection has 17 voxels that are neither 0 nor 1 (255). Expected a mask of 0 and 1: binarise it, ",
        cap_masks(ignored_beside, "infection"),
    ),
    Row(
        "image_as_lung",
        "image and lung mask exchanged",
        CAP_TRAIN,
        "Case bad: lung has 1,512 voxels that are neither 0 nor 1 "
        "(-1000, -850, -400 and 1 more). Expected a mask of 0 and 1: ",
        exchanged(cap_data, "images", "lungs"),
    ),
    Row(
        "published_fraction",
        "a published mask with a fractional value",
        "convert_medseg",
        "tr_mask.nii.gz has 0.5 in slice 3, 1 such "
        "pixels in all. Expected 0, 1, 2, 3, 255. Check that it is the mask file.",
        stack(0.5),
    ),
    Row(
        "published_mirrored",
        "masks mirrored relative to their image",
        "convert_covid20_volumes",
        "Case coronacases_001: 71% of lung_mask is aerated lung, 100% when it is mirrored along axis 2. Expected a ",
        mirrored_volumes,
    ),
    Row("label_unknown", "`flu` as label", CAP_TRAIN, f"Case bad: label is 'flu'. {CLASSES}", in_cases(label="flu")),
    Row("label_number", "`1` as label", CAP_TRAIN, f"Case bad: label is 1. {CLASSES}", in_cases(label=1)),
    Row("label_missing", "no label", CAP_TRAIN, f"Case bad: has no 'label'. {BUILD}", without("label")),
    Row(
        "label_upper_case",
        "` COVID ` as label",
        CAP_TRAIN,
        f"{TAKEN}`covid`",
        in_cases(label=" COVID "),
        lambda item: item["label"] == 1,
    ),
    Row(
        "fold_of_one_class",
        "a fold with one class only",
        "cap: fold",
        "Fold 1 validates 1 COVID-19 and 0 CAP scans: AUC is undefined. Rebuild the datalist with fewer folds",
        relisted(one_class),
    ),
    Row(
        "patient_in_two_folds",
        "a patient in two folds",
        CAP_TRAIN,
        "2 cases of one patient are in different folds: bad in 0, covid_1 in 1. Give all scans of a patient one fold",
        in_cases(patient_id="covid_1"),
    ),
    Row("fold_missing", "no fold", CAP_TRAIN, f"Case bad: has no 'fold'. {BUILD}", without("fold")),
    Row("fold_negative", "-1 as fold", CAP_TRAIN, f"Case bad: fold is -1. {FOLD}", in_cases(fold=-1)),
    Row("fold_fraction", "1.5 as fold", CAP_TRAIN, f"Case bad: fold is 1.5. {FOLD}", in_cases(fold=1.5)),
    Row("fold_huge", "10 to the power of 400 as fold", CAP_TRAIN, "Case bad: fold is 1000", in_cases(fold=10**400)),
    Row(
        "ratio_above_1",
        "1.2 as infection ratio",
        CAP_TRAIN,
        f"{RATIO}1.2. Expected infection volume / lung volume, 0 to 1. ",
        in_cases(ratio=1.2),
    ),
    Row(
        "ratio_huge",
        "10 to the power of 400 as infection ratio",
        CAP_TRAIN,
        f"{RATIO}100000000000",
        in_cases(ratio=10**400),
    ),
    Row(
        "ratio_text",
        '`"0.1"` as infection ratio',
        CAP_TRAIN,
        "Case bad: ratio is '0.1'. Expected infection volume / lung volume, a number from 0 to 1",
        in_cases(ratio="0.1"),
    ),
    Row(
        "ratio_of_no_masks",
        "a ratio that does not match the masks",
        "check_datalist",
        "Case bad: ratio is 0.0200 but that of the masks is 0.0536. Expected at most 0.0001 between them. "
        "Correct it, or rebuild the datalist",
        in_cases(ratio=0.02),
    ),
    Row(
        "group_contradicts",
        "a size group that does not match the ratio",
        CAP_TRAIN,
        "Case bad: group is 'cap_small' but covid of ratio 0.05 is covid_large. Correct one of them",
        in_cases(group="cap_small"),
    ),
    Row(
        "table_semicolons",
        "a table with semicolons",
        "build_datalist",
        "Table … has the columns a;b. Expected case_id and label, each column once, separated by commas.",
        table("a;b\n1;2\n"),
    ),
    Row(
        "table_utf_16",
        "a table in UTF-16",
        "build_datalist",
        "Table … cannot be read: 'utf-8' codec can't decode",
        table(TABLE, "utf-16"),
    ),
    Row(
        "table_label",
        "`flu` in a table",
        "build_datalist",
        f"row 6 of labels.csv (cap_2): label is 'flu'. {CLASSES}",
        table(TABLE + "cap_2,flu\n"),
    ),
    Row(
        "table_lacks_scan",
        "a scan without a row in the table",
        "build_datalist",
        "1 in images/ without a row in labels.csv: cap_2",
        table(TABLE),
    ),
    Row(
        "table_fold_digits",
        "a fold of 5,000 digits",
        "build_datalist",
        "row 1 of labels.csv (bad): fold is '9999",
        table("case_id,label,fold\nbad,covid," + "9" * 5000 + "\n"),
    ),
    Row(
        "table_way_out",
        "`../../x.nii` in a table",
        "build_datalist",
        "row 1 of labels.csv (bad): path ../../x.nii is outside the datalist's folder. ",
        table("case_id,label,image\nbad,covid,../../x.nii\n"),
    ),
    Row(
        "greys_infinite",
        "an infinite intensity",
        "convert_jpg",
        "Image bad.jpg: air_grey is -inf and fat_grey 3.0. Expected air darker",
        greys("bad,-inf,3\n"),
    ),
    Row(
        "greys_long",
        "a value of 200,000 letters in a table",
        "convert_jpg",
        "Table … cannot be read: ",
        greys("x" * 200_000 + ",2,3\n"),
    ),
    Row(
        "runs_long",
        "the same",
        "convert_covid20_slices",
        "Table … cannot be read: field larger than field limit (131072). Expected a CSV in UTF-8.",
        runs(no_archive, "name\n" + "x" * 200_000 + "\n"),
    ),
    Row(
        "runs_columns",
        "more values in a row than columns",
        "convert_covid20_slices",
        "Table … has the columns ['name']. Expected name, patient_id, slice_mm, rows_to",
        runs(no_archive, "name\nvolume_0007,1.5\n"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_labels(row, tmp_path, caplog):
    row.try_out(tmp_path, caplog)
