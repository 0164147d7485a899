from dataclasses import replace

import numpy as np
import pytest
from custom_components.study.statistics.bootstrap import bootstrap_interval
from custom_components.study.statistics.case_statistics import CASE_STATISTICS
from custom_components.study.statistics.delong import delong_interval
from custom_components.study.tables.interval_tables import fold_table, interval_table, subgroup_tables
from custom_components.study.tables.table import DASH

from tests.study.results_by_hand import SYSTEMS, classification_results

RESAMPLES = 60


@pytest.fixture(scope="module")
def groups(diagnoses):
    return {name: table.frame for name, table in subgroup_tables(diagnoses, RESAMPLES)}


@pytest.fixture(scope="module")
def frame(diagnoses):
    return interval_table(diagnoses, RESAMPLES).frame


def test_the_auc_of_the_joined_folds_has_delongs_interval_and_that_of_patients(diagnoses, frame):
    rows = diagnoses.of_system("tv", SYSTEMS[0])
    delong = delong_interval(rows["label"], rows["probability"])
    cell = frame.loc[("TV set", SYSTEMS[0]), "AUC (DeLong)"]
    assert (cell.value, cell.low, cell.high, cell.n) == (delong.auc, delong.low, delong.high, 54)
    patients = bootstrap_interval(rows.sort_values("case_id"), CASE_STATISTICS["auc"], resamples=RESAMPLES)
    cell = frame.loc[("TV set", SYSTEMS[0]), "AUC"]
    assert (cell.value, cell.low, cell.high) == pytest.approx((patients.value, patients.low, patients.high))


def test_on_a_test_set_the_interval_is_that_of_the_mean_over_the_models(diagnoses, frame):
    rows = diagnoses.of_system("test", SYSTEMS[1])
    means = rows.groupby("fold")[["label", "probability"]].apply(CASE_STATISTICS["accuracy"])
    cell = frame.loc[("Test set", SYSTEMS[1]), "Accuracy"]
    assert cell.value == pytest.approx(means.mean())
    assert cell.low < cell.value < cell.high
    assert str(frame.loc[("Test set", SYSTEMS[1]), "AUC (DeLong)"]) == ""


def test_scans_and_patients_are_those_that_were_scored(frame):
    assert frame.loc[("TV set", SYSTEMS[0]), ["Scans", "Patients"]].tolist() == [54, 52]
    assert frame.loc[("TV set", SYSTEMS[3]), "Scans"] == 53


def test_only_a_failed_fold_has_empty_cells(diagnoses):
    gone = (diagnoses.predictions["system"] == SYSTEMS[1]) & (diagnoses.predictions["fold"] == 1)
    results = replace(diagnoses, predictions=diagnoses.predictions[~gone])
    table = fold_table(results)
    for name in ("TV set", "Test set"):
        assert {str(cell) for cell in table.frame.loc[(name, "1", SYSTEMS[1])]} == {""}
    assert "" not in {str(cell) for cell in table.frame.loc[("TV set", "1", SYSTEMS[2])]}
    assert table.frame.loc[("TV set", "1", SYSTEMS[2]), "Scans"] > 0


def test_scores_by_fold_agree_with_the_pooled_score(diagnoses, frame):
    rows = fold_table(diagnoses).frame.xs(("TV set", SYSTEMS[0]), level=("set", "system"))
    right = sum(row["Accuracy"].value * row["Scans"] for _, row in rows.iterrows())
    assert right / 54 == pytest.approx(frame.loc[("TV set", SYSTEMS[0]), "Accuracy"].value)


def test_every_additional_column_has_groups_that_add_up(groups):
    frame = groups["tv"]
    assert list(dict.fromkeys(by for by, _ in frame.index)) == ["", "ratio", "age", "sex", "site"]
    for column in ("ratio", "age", "sex", "site"):
        assert frame.loc[column, ["COVID-19", "CAP"]].sum().tolist() == [23, 30]
    assert set(groups) == {"tv", "test"}


def test_a_group_of_one_class_has_a_dash_for_its_auc_and_a_sensitivity(diagnoses):
    wards = np.where(diagnoses.cases["label"] == 1, "isolation", "general")
    results = replace(diagnoses, cases=diagnoses.cases[["set", "case_id", "patient_id", "label", "ratio", "fold"]])
    results = replace(results, cases=results.cases.assign(ward=wards))
    row = next(subgroup_tables(results, RESAMPLES))[1].frame.loc[("ward", "isolation")]
    assert str(row["AUC"]) == f"{DASH} (n = 23)"
    assert str(row["Specificity"]) == f"{DASH} (n = 23)"
    assert 0 < row["Sensitivity"].value <= 1


def test_an_empty_band_is_kept(groups):
    assert [str(cell) for cell in groups["tv"].loc[("age", "0 - 17")]] == ["0", "0", *[f"{DASH} (n = 0)"] * 4]


def test_resamples_without_a_class_are_noted(tmp_path):
    results = classification_results(tmp_path, n_tv=(3, 4), n_test=(0, 0))
    table = interval_table(results, RESAMPLES)
    assert any(cell.undefined for cell in table.frame["Sensitivity"])
    assert "Resamples in which a value is undefined (at most" in table.note
