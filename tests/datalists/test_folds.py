from collections import Counter

import pytest
from custom_components.datalists.folds import assign_folds, hold_out_fold, select_fold
from custom_components.infection_size import SIZE_GROUPS
from hypothesis import given, reject, settings
from hypothesis import strategies as st


def scans_of(patients):
    """Scans from the size groups of each patient's scans."""
    return [
        {"case_id": f"{patient}_{k}", "patient_id": f"secret{patient}", "group": group, "label": int("covid" in group)}
        for patient, groups in enumerate(patients)
        for k, group in enumerate(groups)
    ]


def with_folds(scans, folds):
    return [{**scan, "fold": fold} for scan, fold in zip(scans, folds, strict=True)]


def counts(scans, folds, key):
    """Number of scans in each of five folds, by the value of a key."""
    pairs = list(zip(scans, folds, strict=True))
    return {
        value: [sum(scan[key] == value and own == fold for scan, own in pairs) for fold in range(5)]
        for value in {scan[key] for scan in scans}
    }


def patients_of(name):
    groups = st.sampled_from([group for group in SIZE_GROUPS if name in group])
    return st.lists(groups, min_size=1, max_size=3)


ONE_CLASS_PATIENTS = st.lists(st.one_of(patients_of("covid"), patients_of("cap")), min_size=20, max_size=60)


@settings(max_examples=50)
@given(ONE_CLASS_PATIENTS, st.integers(2, 5), st.integers(0, 99))
def test_all_scans_of_a_patient_are_in_one_fold(patients, num_folds, seed):
    scans = scans_of(patients)
    try:
        folds = assign_folds(scans, num_folds, seed)
    except ValueError:  # a class with too few patients, or a fold with one class
        reject()
    assert set(folds) == set(range(num_folds))
    for fold in range(num_folds):
        split = select_fold(with_folds(scans, folds), fold)
        assert not {one["patient_id"] for one in split["training"]} & {one["patient_id"] for one in split["validation"]}
        assert sorted(one["case_id"] for side in ("training", "validation") for one in split[side]) == sorted(
            one["case_id"] for one in scans
        )


@settings(max_examples=50)
@given(st.integers(0, 99))
def test_size_groups_are_spread_evenly_over_the_folds(seed):
    scans = scans_of([["covid_small"]] * 10 + [["covid_large"]] * 30 + [["cap_small"]] * 20 + [["cap_large"]] * 5)
    folds = assign_folds(scans, 5, seed)
    sizes = {"covid_small": 2, "covid_large": 6, "cap_small": 4, "cap_large": 1}
    assert counts(scans, folds, "group") == {group: [size] * 5 for group, size in sizes.items()}


@pytest.mark.parametrize("seed", range(8))
def test_a_patient_of_many_scans_is_placed_before_those_of_few(seed):
    """If it were placed last, the folds would have 5 scans and 1, not 3 and 3."""
    scans = scans_of([[group] * count for group in ("covid_large", "cap_small") for count in (1, 1, 1, 3)])
    folds = assign_folds(scans, 2, seed)
    assert {label: row[:2] for label, row in counts(scans, folds, "label").items()} == {0: [3, 3], 1: [3, 3]}


def test_groups_too_small_to_stratify_are_assigned_by_class():
    covid, cap = ["covid_small", "covid_large"] * 2 + ["covid_large"], ["cap_small", "cap_large"] * 2 + ["cap_small"]
    scans = scans_of([[group] for group in covid + cap])
    for seed in range(5):
        assert counts(scans, assign_folds(scans, 5, seed), "label") == {1: [1] * 5, 0: [1] * 5}


def test_the_folds_depend_on_the_seed_and_not_on_the_order_of_the_scans():
    scans = scans_of([["covid_small", "covid_large"], ["covid_large"], ["cap_small"], ["cap_large", "cap_small"]] * 6)
    folds = {seed: assign_folds(scans, 5, seed) for seed in range(4)}
    assert assign_folds(scans[::-1], 5, 2)[::-1] == folds[2]
    assert len({tuple(fold) for fold in folds.values()}) > 1


def test_with_one_fold_all_scans_are_in_it():
    scans = scans_of([["covid_small"], ["covid_large"]])
    assert assign_folds(scans, num_folds=1) == [0, 0]


def test_a_class_with_fewer_patients_than_folds_is_an_error():
    scans = scans_of([["covid_large"]] * 7 + [["cap_small"] * 4] * 2)
    with pytest.raises(ValueError, match=r"7 COVID-19 and 2 CAP patients cannot make 3 folds.*fewer folds"):
        assign_folds(scans, 3)
    with pytest.raises(ValueError, match="num_folds is 0"):
        assign_folds(scans, 0)


def test_the_validation_fold_is_not_used_for_training():
    scans = with_folds(scans_of([["covid_large"], ["cap_small"]] * 3), [2, 2, 0, 0, 5, 5])
    split = select_fold(scans, 0)
    assert [scan["case_id"] for scan in split["validation"]] == ["2_0", "3_0"]
    assert [scan["case_id"] for scan in split["training"]] == ["0_0", "1_0", "4_0", "5_0"]
    assert split["fold"] == 0
    assert split["protocol"].startswith("fold 0 of ")


def test_a_fold_for_a_segmentation_may_have_any_classes():
    scans = with_folds(scans_of([["covid_large"]] * 5), [0, 1, 2, 0, 1])
    split = hold_out_fold([{key: scan[key] for key in ("case_id", "patient_id", "fold")} for scan in scans], 1)
    assert [scan["case_id"] for scan in split["validation"]] == ["1_0", "4_0"]
    assert [scan["case_id"] for scan in split["training"]] == ["0_0", "2_0", "3_0"]
    assert (split["fold"], split["protocol"]) == (1, "fold 1 of 3, by patient")


def test_without_a_fold_all_scans_are_for_validation():
    scans = with_folds(scans_of([["covid_large"]] * 3), [0, 0, 1])
    split = {"training": [], "validation": scans, "num_folds": None, "fold": None}
    assert select_fold(scans, None) == {**split, "protocol": "all scans (no split)"}


def test_a_fold_that_does_not_exist_or_is_the_only_one_is_an_error():
    scans = with_folds(scans_of([["covid_large"], ["cap_small"]] * 2), [0, 0, 2, 2])
    with pytest.raises(ValueError, match=r"fold is 1. Expected one of the datalist's folds: 0, 2"):
        select_fold(scans, 1)
    with pytest.raises(ValueError, match="All scans are in fold 0, so none is left for training"):
        select_fold(scans[:2], 0)


def test_training_or_validation_with_one_class_is_an_error_with_its_counts():
    scans = with_folds(scans_of([["covid_large"]] * 4 + [["cap_small"]] * 2), [0, 1, 1, 1, 0, 0])
    with pytest.raises(ValueError, match=r"Fold 1 validates 3 COVID-19 and 0 CAP scans: AUC is undefined.*fewer folds"):
        select_fold(scans, 1)
    with pytest.raises(ValueError, match="Fold 0 trains on 3 COVID-19 and 0 CAP scans: the classifier needs both"):
        select_fold(scans, 0)


def test_a_patient_in_two_folds_is_an_error_that_names_the_cases():
    scans = with_folds(scans_of([["covid_large", "covid_small"], ["cap_small"], ["cap_large"]]), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="2 cases of one patient are in different folds: 0_0 in 0, 0_1 in 1") as caught:
        select_fold(scans, 0)
    assert "secret" not in str(caught.value)


def three_class_scans(normals):
    kinds = [(1, "covid_small"), (1, "covid_large"), (0, "cap_small"), (0, "cap_large")] * 3 + [(2, "normal")] * normals
    return [{"case_id": str(k), "patient_id": str(k), "label": own[0], "group": own[1]} for k, own in enumerate(kinds)]


def test_normal_scans_are_spread_over_the_folds():
    scans = three_class_scans(7)
    folds = assign_folds(scans, 3)
    counts = [
        Counter(scan["label"] for scan, own in zip(scans, folds, strict=True) if own == fold) for fold in range(3)
    ]
    assert sorted(count[2] for count in counts) == [2, 2, 3]
    assert all(count[0] == count[1] == 2 for count in counts)
    with pytest.raises(ValueError, match="2 people with normal scans cannot make 3 folds with all classes in each"):
        assign_folds(three_class_scans(2), 3)


def test_a_fold_without_normal_scans_is_refused_if_others_have_some():
    scans = [
        {**scan, "fold": number % 3 if scan["label"] < 2 else 0} for number, scan in enumerate(three_class_scans(4))
    ]
    with pytest.raises(ValueError, match="Fold 1 validates no normal scans, but other folds have some"):
        select_fold(scans, 1)
    with pytest.raises(ValueError, match="Fold 0 trains on no normal scans"):
        select_fold(scans, 0)
