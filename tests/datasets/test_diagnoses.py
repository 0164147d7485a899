import pytest
from custom_components.datasets.diagnoses import diagnosis, normals_left_out, sex_and_age, with_stratified_folds


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("COVID-19", "covid", "NCP", "Covid 19"), "covid"),
        (("CAP", "cap ", "CP", "Community-acquired pneumonia"), "cap"),
        (("Normal", "NORMAL", "healthy"), "normal"),
        (("", "PCR", "covidcap", "19"), ""),
    ],
)
def test_a_class_is_known_by_its_published_names(names, label):
    assert {diagnosis(name) for name in names} == {label}


def test_only_normal_scans_are_left_out_and_only_unless_asked_for():
    labels = {"a": "covid", "b": "normal", "c": "cap"}
    assert list(normals_left_out(labels, normals=False)) == ["b"]
    assert normals_left_out(labels, normals=True) == {}


@pytest.mark.parametrize("age", ["008M", "1000Y", "", None, "035-045", "-3"])
def test_an_age_that_is_not_in_years_is_left_out(age):
    assert sex_and_age("M", age) == {"sex": "M"}


def test_scans_of_one_patient_share_a_fold_and_each_fold_has_both_classes():
    labels = [("covid", "cap")[k // 2 % 2] for k in range(16)]
    cases = [{"patient_id": f"{k // 2}", "label": labels[k], "group": f"{labels[k]}_small"} for k in range(16)]
    folded = with_stratified_folds(cases, 4, seed=0)
    folds = {case["patient_id"]: set() for case in folded}
    for case in folded:
        folds[case["patient_id"]].add(case["fold"])
    assert all(len(own) == 1 for own in folds.values())
    for fold in range(4):
        assert {case["label"] for case in folded if case["fold"] == fold} == {"covid", "cap"}
