import json
from collections import Counter

import numpy as np
import pytest
from custom_components.datalists.slices import list_cases
from custom_components.datalists.split import split_cases, write_split
from hypothesis import given
from hypothesis import strategies as st


def cases_of(groups):
    return [{"case_id": f"{k:03d}", "image": f"/data/{k:03d}.png", "group": group} for k, group in enumerate(groups)]


def ids(cases):
    return [case["case_id"] for case in cases]


SPLITS = st.tuples(
    st.integers(2, 7), st.integers(7, 60), st.integers(0, 99), st.sampled_from(["blocks", "group", "paper"])
)


def groups_for(kind, count, seed):
    """At least seven groups, some much larger than others."""
    generator = np.random.default_rng(seed)
    groups = [str(k if k < 7 else generator.integers(9) ** 2 // 9) for k in range(count)]
    return groups if kind == "group" else [""] * count


@given(SPLITS)
def test_each_case_is_in_one_fold(split):
    num_folds, count, seed, kind = split
    cases = cases_of(groups_for(kind, count, seed))
    protocol = "paper" if kind == "paper" else "group"
    folds = [split_cases(cases, num_folds, fold, protocol, seed=seed) for fold in range(num_folds)]
    assert sorted(name for fold in folds for name in ids(fold["validation"])) == ids(cases)
    for fold in folds:
        assert sorted(ids(fold["training"]) + ids(fold["validation"])) == ids(cases)
        assert fold["validation"]


@given(SPLITS)
def test_no_group_is_in_training_and_validation(split):
    num_folds, count, seed, _ = split
    cases = cases_of(groups_for("group", count, seed))
    for fold in range(num_folds):
        sides = split_cases(cases, num_folds, fold, seed=seed)
        assert not {case["group"] for case in sides["training"]} & {case["group"] for case in sides["validation"]}


@pytest.mark.parametrize(
    ("groups", "sizes"),
    [
        ([f"patient{k // 4}" for k in range(80)], [16] * 5),
        (["large"] * 10 + [f"small{k}" for k in range(10)], [10, 10]),
    ],
)
def test_folds_are_balanced_even_with_one_large_group(groups, sizes):
    for seed in range(5):
        folds = range(len(sizes))
        assert [
            len(split_cases(cases_of(groups), len(sizes), fold, seed=seed)["validation"]) for fold in folds
        ] == sizes


def test_the_folds_depend_on_the_seed_and_not_on_the_order_of_the_cases():
    cases = cases_of([f"patient{k // 3}" for k in range(30)])
    for protocol in ("group", "paper"):
        splits = {seed: split_cases(cases, 5, 0, protocol, seed=seed) for seed in range(4)}
        assert splits[3] == split_cases(cases[::-1], 5, 0, protocol, seed=3)
        assert len({tuple(ids(split["validation"])) for split in splits.values()}) > 1


def test_blocks_follow_natural_order_and_differ_by_at_most_one():
    cases = [{"case_id": f"slice{k}", "image": "", "group": ""} for k in range(23)]
    folds = [ids(split_cases(cases, 5, fold)["validation"]) for fold in range(5)]
    assert [name for fold in folds for name in fold] == [f"slice{k}" for k in range(23)]
    assert Counter(len(fold) for fold in folds) == {5: 3, 4: 2}


@pytest.mark.parametrize(
    ("fold", "left_out"), [(0, ["004", "005"]), (1, ["002", "003", "008", "009"]), (4, ["014", "015"])]
)  # fmt: skip
def test_a_border_removes_the_neighbours_of_the_block_from_training(fold, left_out):
    split = split_cases(cases_of([""] * 20), 5, fold, border=2)
    assert ids(split["left_out"]) == left_out
    assert len(split["training"]) == 16 - len(left_out)
    assert not set(ids(split["training"])) & set(left_out)


def test_the_paper_protocol_mixes_neighbours_and_the_text_warns_about_it():
    split = split_cases(cases_of([""] * 80), 5, 0, "paper")
    assert "patients may leak between folds" in split["protocol"]
    assert len(split["validation"]) == 16
    assert np.diff([int(name) for name in ids(split["validation"])]).max() > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_folds": 1}, "num_folds is 1. Expected 2 or more"),
        ({"fold": 5}, "fold is 5. Expected 0 to 4"),
        ({"fold": -1}, "fold is -1"),
        ({"num_folds": 11}, "10 cases cannot make 11 folds.*--num_folds 10"),
        ({"protocol": "random"}, "protocol is 'random'"),
        ({"border": -1}, "border is -1"),
        ({"border": 10}, "A border of 10 leaves no case"),
    ],
)
def test_impossible_splits_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        split_cases(cases_of([""] * 10), **arguments)


def test_groups_of_only_some_cases_and_too_few_groups_are_an_error():
    with pytest.raises(ValueError, match="1 of 10 cases have no group, the first is 003"):
        split_cases(cases_of(["a", "b", "c", "", "e", "f", "g", "h", "i", "j"]))
    with pytest.raises(ValueError, match=r"2 groups cannot make 5 folds. Use fewer folds: --num_folds 2"):
        split_cases(cases_of(["a", "b"] * 5))


def test_a_written_split_has_relative_paths_and_can_be_read_as_a_data_set(tmp_path, write_png):
    for name in range(7):
        for folder in ("images", "masks"):
            write_png(tmp_path / folder / f"{name}.png", np.zeros((6, 7)))
    split = split_cases(list_cases(tmp_path), 7, 2)
    path = write_split(split, tmp_path / "split.json", root=tmp_path)
    written = json.loads(path.read_text())
    assert written["validation"] == [{"case_id": "2", "image": "images/2.png", "label": "masks/2.png", "group": ""}]
    assert (written["fold"], written["num_folds"]) == (2, 7)
    assert list_cases(path) == split["training"]
    assert json.loads(write_split(split, tmp_path / "absolute.json").read_text()) == split


def test_without_a_fold_all_cases_are_for_validation():
    cases = [{"case_id": str(number), "image": "", "group": ""} for number in (10, 2, 1)]
    split = split_cases(cases, num_folds=5, fold=None)
    assert [case["case_id"] for case in split["validation"]] == ["1", "2", "10"]
    assert split["training"] == []
    assert split["protocol"] == "all cases (no split)"


def test_a_split_without_data_can_be_created_but_not_read():
    split = split_cases(None, num_folds=5, fold=3)
    for side in ("training", "validation", "protocol"):
        with pytest.raises(ValueError, match=r"dataset_dir is missing. Set --dataset_dir /path/to/data"):
            split[side]
