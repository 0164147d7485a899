from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from custom_components.study.results.study_results import ClassificationResults, FailedRun
from custom_components.study.statistics.calibration import brier_score, expected_calibration_error
from custom_components.study.tables.model_scores import METRICS
from custom_components.study.tables.system_tables import (
    attention_table,
    calibration_table,
    ensemble_table,
    ratio_table,
    systems_table,
)
from custom_components.study.tables.table import DASH

from tests.study.results_by_hand import SYSTEMS, classification_results

# TV: 3 COVID-19 (fold 0, 0, 1), 2 CAP (fold 0, 1). Test: 2 COVID-19, 1 CAP, each by two models.
TV_CASES = [
    ("a", 1, 0.001, 0, 0.9),
    ("b", 1, 0.010, 0, 0.4),
    ("c", 1, 0.2, 1, 0.5),
    ("d", 0, 0.002, 0, 0.6),
    ("e", 0, 0.010, 1, 0.1),
]
TEST_CASES = [("x", 1, 0.003, (0.8, 0.7)), ("y", 1, 0.100, (0.3, 0.9)), ("z", 0, 0.003, (0.2, 0.75))]


def by_hand():
    cases = [("tv", *case[:4]) for case in TV_CASES] + [("test", *case[:3], -1) for case in TEST_CASES]
    predictions = [("tv", fold, name, p) for name, _, _, fold, p in TV_CASES]
    predictions += [("test", fold, name, p) for name, _, _, both in TEST_CASES for fold, p in enumerate(both)]
    frame = pd.DataFrame(cases, columns=["set", "case_id", "label", "ratio", "fold"])
    predicted = pd.DataFrame(predictions, columns=["set", "fold", "case_id", "probability"])
    return ClassificationResults(
        protocols={"nested": "by hand"},
        cases=frame.assign(patient_id=frame["case_id"]),
        predictions=predicted.assign(system="US", attention_dice=np.nan),
        systems=("US",),
        ensemble=pd.DataFrame(columns=["set", "fold", "w_outside", "w_inside", "low", "high", "auc"]),
        panels=(),
    )


def cell(table, row, column):
    return str(table.frame.loc[row, column])


def without(results, **lost):
    """The results without the predictions whose columns have these values."""
    gone = pd.concat([results.predictions[name] == value for name, value in lost.items()], axis=1).all(axis=1)
    return replace(results, predictions=results.predictions[~gone])


def test_table_ii_pools_the_folds_and_averages_the_test_models():
    table = systems_table(by_hand())
    # 3 x 2 pairs: a beats d and e, b and c beat e alone: 4 of 6. Right: a, c (0.5 is COVID-19) and e.
    assert cell(table, ("AUC", "US"), "TV set") == f"{4 / 6:.3f}"
    assert cell(table, ("Accuracy", "US"), "TV set") == f"{3 / 5:.3f}"
    assert cell(table, ("Sensitivity", "US"), "TV set") == f"{2 / 3:.3f}"
    assert cell(table, ("Specificity", "US"), "TV set") == f"{1 / 2:.3f}"
    # F1 of COVID-19: TP 2, FP 1, FN 1: 2/3; of CAP: TP 1, FP 1, FN 1: 1/2.
    assert cell(table, ("F1-score", "US"), "TV set") == f"{(2 / 3 + 1 / 2) / 2:.3f}"
    # Model 0: x and y above z: AUC 1; x and z right: accuracy 2/3. Model 1: y alone above z: AUC 1/2; x and y right.
    assert cell(table, ("AUC", "US"), "Test set") == f"0.750 ± {np.std([1, 0.5], ddof=1):.3f}"
    assert cell(table, ("Accuracy", "US"), "Test set") == "0.667 ± 0.000"
    assert cell(table, ("Sensitivity", "US"), "Test set") == f"0.750 ± {np.std([0.5, 1], ddof=1):.3f}"
    assert cell(table, ("Specificity", "US"), "Test set") == f"0.500 ± {np.std([1, 0], ddof=1):.3f}"


def test_table_iii_counts_and_scores_each_band():
    table = ratio_table(by_hand())
    counts = [
        cell(table, ("No. of images", name), ("TV set", band))
        for name in ("COVID-19", "CAP", "Total")
        for band in ("< 0.005", "0.005 - 0.030", "> 0.030")
    ]
    assert counts == ["1", "1", "1", "1", "1", "0", "2", "2", "1"]
    assert cell(table, ("AUC", "US"), ("TV set", "< 0.005")) == "1.000"
    assert cell(table, ("Accuracy", "US"), ("TV set", "< 0.005")) == "0.500"
    assert cell(table, ("Sensitivity", "US"), ("TV set", "0.005 - 0.030")) == "0.000"


def test_a_group_of_one_class_or_without_scans_has_a_dash_with_its_n():
    table = ratio_table(by_hand())
    assert cell(table, ("AUC", "US"), ("TV set", "> 0.030")) == f"{DASH} (n = 1)"
    assert cell(table, ("Specificity", "US"), ("TV set", "> 0.030")) == f"{DASH} (n = 1)"
    assert cell(table, ("Sensitivity", "US"), ("TV set", "> 0.030")) == "1.000"
    empty = {cell(table, (title, "US"), ("Test set", "0.005 - 0.030")) for title in METRICS.values()}
    assert empty == {f"{DASH} (n = 0)"}


def test_without_a_test_set_there_is_no_column_for_one():
    results = by_hand()
    table = systems_table(replace(without(results, set="test"), cases=results.cases[results.cases["set"] == "tv"]))
    assert list(table.frame.columns) == ["TV set"]
    assert "There is no test set." in table.note


def test_one_model_alone_has_no_spread():
    assert cell(systems_table(without(by_hand(), set="test", fold=1)), ("AUC", "US"), "Test set") == "1.000†"


def test_a_failed_fold_is_named_and_marked_and_a_system_without_any_is_empty(diagnoses):
    failed = (FailedRun("attention_us/fold_2/train", "CUDA out of memory"),)
    results = replace(without(without(diagnoses, system=SYSTEMS[0]), system=SYSTEMS[1], fold=2), failed=failed)
    table = systems_table(results)
    assert cell(table, ("AUC", SYSTEMS[0]), "TV set") == ""
    assert "†" in cell(table, ("AUC", SYSTEMS[1]), "TV set")
    assert "†" not in cell(table, ("AUC", SYSTEMS[2]), "TV set")
    assert f"† {SYSTEMS[1]} has no results for fold 2 (TV set) and fold 2 (Test set)." in table.note
    assert f"† {SYSTEMS[0]} has no results for folds 0, 1, 2 (TV set)" in table.note
    assert "Failed: attention_us/fold_2/train." in table.note
    assert {str(own) for own in calibration_table(results).frame.loc[("TV set", SYSTEMS[0])]} == {""}


def test_scans_without_a_probability_are_excluded_and_counted(diagnoses):
    table, system = systems_table(diagnoses), SYSTEMS[3]
    missing = f"{system} has no probability for 1 of 54 scans (TV set) and 1 of 32 scans (Test set): excluded."
    assert missing in table.note
    assert [table.frame.loc[("AUC", own), "TV set"].n for own in SYSTEMS[2:]] == [54, 53]


@pytest.mark.parametrize("n_test", [(0, 4), (5, 0)])
def test_a_test_set_of_one_class_has_no_auc(tmp_path, n_test):
    results = classification_results(tmp_path, n_test=n_test)
    text = cell(systems_table(results), ("AUC", SYSTEMS[0]), "Test set")
    assert text == f"{DASH} (n = {sum(n_test)})"


def test_the_dice_is_the_mean_over_covid_scans_of_the_mean_over_models(diagnoses):
    frame = attention_table(diagnoses, 40).frame
    assert list(frame.index) == [(name, system) for name in ("TV set", "Test set") for system in SYSTEMS[1:3]]
    dice = diagnoses.of_system("test", SYSTEMS[2]).groupby("case_id")["attention_dice"].mean().mean()
    assert frame.loc[("Test set", SYSTEMS[2]), "Dice"].value == pytest.approx(dice)
    assert frame.loc[("Test set", SYSTEMS[2]), "Scans"] == 19


def test_without_attention_there_is_no_row(diagnoses):
    results = replace(diagnoses, predictions=diagnoses.predictions.assign(attention_dice=np.nan))
    assert attention_table(results, 40).frame.empty


def test_joined_folds_give_one_calibration_and_test_models_their_mean(diagnoses):
    frame = calibration_table(diagnoses).frame
    joined = diagnoses.of_system("tv", SYSTEMS[0])
    error = expected_calibration_error(joined["label"], joined["probability"])
    assert frame.loc[("TV set", SYSTEMS[0]), "ECE, equal width"].value == pytest.approx(error)
    tested = diagnoses.of_system("test", SYSTEMS[1])
    scores = [brier_score(rows["label"], rows["probability"]) for _, rows in tested.groupby("fold")]
    cell = frame.loc[("Test set", SYSTEMS[1]), "Brier score"]
    assert (cell.value, cell.sd) == pytest.approx((np.mean(scores), np.std(scores, ddof=1)))
    assert frame.loc[("TV set", SYSTEMS[0]), "Share of COVID-19"].value == pytest.approx(23 / 54)
    assert frame.loc[("TV set", SYSTEMS[3]), "Share of COVID-19"].value == pytest.approx(23 / 53)


def test_rules_are_in_the_order_of_sets_and_folds_with_dashes_where_none_was_found(diagnoses):
    ensemble = diagnoses.ensemble.copy()
    ensemble.loc[2, ["w_outside", "w_inside", "low", "high", "auc"]] = np.nan
    frame = ensemble_table(replace(diagnoses, ensemble=ensemble.iloc[::-1])).frame
    assert list(frame.index) == [(name, fold) for name in ("TV set", "Test set") for fold in "012"]
    assert [str(cell) for cell in frame.loc[("TV set", "1")]] == ["0.35", "0.96", "0.0010", "0.0300", "0.910"]
    assert {str(cell) for cell in frame.loc[("TV set", "2")]} == {DASH}
