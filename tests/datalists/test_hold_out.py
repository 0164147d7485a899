import pytest
from custom_components.datalists.folds import hold_out_fold


def scans(folds=(0, 1, 2, 0, 1)):
    return [{"case_id": f"case{k}", "patient_id": f"patient{k}", "fold": fold} for k, fold in enumerate(folds)]


def names(part):
    return [scan["case_id"] for scan in part]


def test_a_fold_validates_and_the_others_train_whatever_their_classes():
    split = hold_out_fold([{**scan, "label": 1} for scan in scans()], 1)
    assert names(split["validation"]) == ["case1", "case4"]
    assert names(split["training"]) == ["case0", "case2", "case3"]
    assert (split["fold"], split["protocol"]) == (1, "fold 1 of 3, by patient")


def test_without_a_fold_all_validate():
    split = hold_out_fold(scans(), None)
    assert (names(split["validation"]), split["training"]) == ([f"case{k}" for k in range(5)], [])


@pytest.mark.parametrize(("folds", "fold"), [((0, 1, 2), 3), ((0, 0), 0)])
def test_a_fold_that_is_not_there_or_alone_is_refused(folds, fold):
    with pytest.raises(ValueError, match=f"fold is {fold} and the datalist has .*Expected one of several"):
        hold_out_fold(scans(folds), fold)


def test_a_patient_on_both_sides_is_refused_by_the_names_of_the_cases():
    leaking = [{**scan, "patient_id": "Doe^Jane"} for scan in scans((0, 1))]
    with pytest.raises(ValueError, match="case0 in 0, case1 in 1") as refused:
        hold_out_fold(leaking, 0)
    assert "Doe" not in str(refused.value)
