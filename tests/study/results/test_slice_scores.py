import logging

import numpy as np
import pandas as pd
import pytest
from custom_components.handlers.slice_table import AREAS, SLICE
from custom_components.study.results.slice_scores import (
    INFECTED,
    LOBES,
    LUNG_AREA,
    MASK,
    REGIONS,
    labelled_slices,
    lung_share,
    slice_auc,
    slice_scores,
)

from tests.study.labelled_by_hand import scan_slices

# As published: left lower, left upper, right lower, right middle, right upper.
SIDE_OF_LOBE = ("left", "left", "right", "right", "right")
TITLES = ("Left lower lobe", "Left upper lobe", "Right lower lobe", "Right middle lobe", "Right upper lobe")


def of(title):
    return next(region for region in REGIONS if region.title == title)


def counted_auc(slices, title, column):
    """Share of the pairs of a marked and an unmarked slice in the right order, pair by pair."""
    marked, free = [], []
    for _, row in slices.iterrows():
        sides = ("left", "right") if title == "Both lungs" else (title.split()[0].lower(),)
        own = [row[lobe] == 1 for lobe, side in zip(LOBES, SIDE_OF_LOBE, strict=True) if side in sides]
        if title == "Both lungs":
            is_marked = is_any = row[INFECTED] == 1
        elif title.endswith("lung"):
            is_marked = is_any = any(own)
        else:
            is_marked, is_any = row[LOBES[TITLES.index(title)]] == 1, any(own)
        lung = sum(row[f"lung_{side}_cm2"] for side in sides)
        share = sum(row[f"{column}_{side}_cm2"] for side in sides) / (1 if column == "lung" else lung) if lung else 0.0
        if is_marked:
            marked.append(share)
        elif lung and not is_any:
            free.append(share)
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in marked for b in free]
    return sum(wins) / len(wins) if wins else float("nan")


@pytest.mark.parametrize("region", [region.title for region in REGIONS])
@pytest.mark.parametrize("column", ["lung", "infection", "attention"])
def test_the_auc_is_that_of_a_count_of_all_pairs_of_slices(region, column):
    for seed in range(6):
        slices = scan_slices(seed, skill=seed / 5)
        found, expected = slice_auc(slices, of(region), column), counted_auc(slices, region, column)
        assert found == pytest.approx(expected, nan_ok=True)
        assert 0 <= expected <= 1


def test_a_marked_slice_without_lung_is_a_miss_and_others_without_lung_say_nothing():
    slices = scan_slices(1)
    none = slices["lung_left_cm2"] + slices["lung_right_cm2"] == 0
    assert slice_auc(slices[~none], REGIONS[0], "infection") == slice_auc(slices, REGIONS[0], "infection")
    missed = slices.assign(**{INFECTED: slices[INFECTED].where(slices[SLICE] > 0, 1)})
    assert slice_auc(missed, REGIONS[0], "infection") < slice_auc(slices, REGIONS[0], "infection")


def test_infection_of_the_other_lung_does_not_count_for_a_lung():
    slices = scan_slices(2)
    moved = slices.assign(infection_right_cm2=0.0)
    assert slice_auc(moved, of("Left lung"), "infection") == slice_auc(slices, of("Left lung"), "infection")
    assert slice_auc(moved, of("Right lung"), "infection") == 0.5


def test_lungs_that_are_not_separated_have_no_score_of_their_own():
    slices = scan_slices(3).assign(lung_right_cm2=0.0, infection_right_cm2=0.0)
    assert np.isnan(slice_auc(slices, of("Left lung"), "infection"))
    assert np.isnan(slice_auc(slices, of("Left upper lobe"), "infection"))
    assert slice_auc(slices, REGIONS[0], "infection") > 0


def test_one_kind_of_slices_or_unknown_lobes_have_no_score():
    slices = scan_slices(4)
    assert np.isnan(slice_auc(slices.assign(**{INFECTED: 0}), REGIONS[0], "infection"))
    unknown = scan_slices(4, lobes=False)
    assert np.isnan(slice_auc(unknown, of("Right lung"), "infection"))
    assert slice_auc(unknown, REGIONS[0], "infection") == slice_auc(slices, REGIONS[0], "infection")


def test_a_share_is_of_the_lungs_of_the_slice():
    slices = pd.DataFrame([dict.fromkeys(AREAS, 0.0), {**dict.fromkeys(AREAS, 10.0), "attention_left_cm2": 5.0}])
    assert lung_share(slices, "attention").tolist() == [0, 0.75]
    assert lung_share(slices, "attention", ("left",)).tolist() == [0, 0.5]


def test_each_model_has_a_score_and_the_mask_of_a_scan_has_one():
    parts = [
        scan_slices(5).assign(system=system, set="test", fold=fold, case_id="a")
        for system in ("US", "SS")
        for fold in (0, 1)
    ]
    scores = slice_scores(pd.concat([*parts, scan_slices(6).assign(system="US", set="tv", fold=1, case_id="a")]))
    whole = scores[scores["region"] == "Both lungs"]
    assert sorted(whole[["set", "source", "fold"]].itertuples(index=False, name=None)) == [
        ("test", MASK, 0), ("test", LUNG_AREA, 0), ("test", "SS", 0), ("test", "SS", 1), ("test", "US", 0),
        ("test", "US", 1), ("tv", MASK, 1), ("tv", LUNG_AREA, 1), ("tv", "US", 1),
    ]  # fmt: skip
    assert len(scores) == 9 * len(REGIONS)
    assert slice_scores(pd.DataFrame()).empty


def test_labels_are_joined_from_the_head_and_wrong_ones_are_left_out(caplog):
    table = pd.DataFrame(
        [{"case_id": name, SLICE: k, **dict.fromkeys(AREAS, 1.0)} for name in ("a", "b", "c", "d") for k in range(3)]
    ).assign(system="US", fold=0)
    shuffled = table.iloc[[2, 0, 1, *range(3, 12)]]
    labels = {
        "a": np.array([[1, 0, 0, 0, 0, 1], [0] * 6, [0] * 6], np.uint8),
        "b": np.array([[0], [0], [1]], np.uint8),
        "d": np.zeros((4, 6), np.uint8),
    }
    with caplog.at_level(logging.WARNING):
        found = labelled_slices(shuffled, labels)
    assert found[["case_id", SLICE, INFECTED]].values.tolist() == [
        ["a", 2, 0], ["a", 0, 1], ["a", 1, 0], ["b", 0, 0], ["b", 1, 0], ["b", 2, 1]
    ]  # fmt: skip
    assert found.loc[found["case_id"] == "a", LOBES[4]].tolist() == [0, 1, 0]
    assert found.loc[found["case_id"] == "b", LOBES].isna().all(axis=None)
    assert set(found["system"]) == {"US"}
    assert "Case d: its labels have 4 slices, the scan has 3" in caplog.text
    assert labelled_slices(table, {}).empty
