from dataclasses import replace

import pytest
from custom_components.study.statistics.case_statistics import CASE_STATISTICS
from custom_components.study.statistics.delong import delong_test
from custom_components.study.statistics.mcnemar import mcnemar_test
from custom_components.study.statistics.paired_t_test import T_TEST_NOTE, t_test_over_folds
from custom_components.study.tables.comparison_tables import comparison_table, t_test_table
from sklearn.metrics import roc_auc_score

from tests.study.results_by_hand import N_FOLDS, SYSTEMS

RESAMPLES = 40
PAIR = f"{SYSTEMS[0]} (A), {SYSTEMS[2]} (B)"


@pytest.fixture(scope="module")
def frame(diagnoses):
    return comparison_table(diagnoses, RESAMPLES).frame


def sorted_by_case(results, name, system, fold=None):
    rows = results.of_system(name, system)
    return (rows if fold is None else rows[rows["fold"] == fold]).sort_values("case_id")


def test_every_pair_is_tested_once_for_each_model(frame):
    assert frame.groupby(level=[0, 1], sort=False).size().to_dict() == {
        ("TV set", "joined"): 6,
        **{("Test set", str(fold)): 6 for fold in range(N_FOLDS)},
        ("Test set", "mean"): 6,
    }


def test_systems_are_tested_on_the_same_scans(frame, diagnoses):
    row = frame.loc[("Test set", "1", PAIR)]
    one, other = (sorted_by_case(diagnoses, "test", SYSTEMS[index], fold=1) for index in (0, 2))
    delong = delong_test(one["label"], one["probability"].to_numpy(), other["probability"].to_numpy())
    calls = mcnemar_test(one["label"], one["probability"].to_numpy(), other["probability"].to_numpy())
    assert (row["AUC A - B"].value, row["p (DeLong)"].value) == pytest.approx((delong.difference, delong.p_value))
    assert (row["only A right"], row["only B right"]) == (calls.only_a, calls.only_b)
    assert row["p (McNemar)"].value == pytest.approx(calls.p_value)
    assert row["Scans"] == 32


def test_scans_missing_from_one_system_are_excluded_from_both(frame):
    assert frame.loc[("TV set", "joined", f"{SYSTEMS[0]} (A), {SYSTEMS[3]} (B)"), "Scans"] == 53
    assert frame.loc[("TV set", "joined", PAIR), "Scans"] == 54


def test_the_difference_by_patient_is_that_of_the_mean_over_the_models(frame):
    mean = frame.loc[("Test set", "mean", PAIR), "AUC A - B, by patient"]
    single = [frame.loc[("Test set", str(fold), PAIR), "AUC A - B"].value for fold in range(N_FOLDS)]
    assert mean.value == pytest.approx(sum(single) / N_FOLDS)
    assert mean.low <= mean.value <= mean.high
    assert str(frame.loc[("Test set", "mean", PAIR), "p (DeLong)"]) == ""


def test_holms_p_is_the_smallest_times_the_number_of_pairs(frame):
    block = frame.loc[("TV set", "joined")]
    p = [cell.value for cell in block["p (DeLong)"]]
    holm = [cell.value for cell in block["p (Holm)"]]
    assert min(holm) == pytest.approx(min(1.0, 6 * min(p)))
    assert all(corrected >= single for corrected, single in zip(holm, p, strict=True))


def test_a_system_without_predictions_has_empty_comparisons(diagnoses):
    predictions = diagnoses.predictions[diagnoses.predictions["system"] != SYSTEMS[2]]
    results = replace(diagnoses, predictions=predictions)
    frame = comparison_table(results, RESAMPLES).frame
    assert {str(cell) for cell in frame.loc[("TV set", "joined", PAIR)]} == {""}


def test_the_papers_test_is_printed_with_the_reason_why_it_is_not_valid(diagnoses):
    table = t_test_table(diagnoses)
    assert table.note.startswith(T_TEST_NOTE)
    folds = [diagnoses.of_system("test", system).groupby("fold") for system in (SYSTEMS[0], SYSTEMS[2])]
    aucs = [[roc_auc_score(rows["label"], rows["probability"]) for _, rows in own] for own in folds]
    found = table.frame.loc[("Test set", "all", PAIR), "AUC"].value
    assert found == pytest.approx(t_test_over_folds(*aucs).p_value)


@pytest.mark.parametrize("band", ["< 0.005", "> 0.030"])
def test_the_papers_test_is_also_done_for_small_and_for_large_infections(diagnoses, band):
    metric = CASE_STATISTICS["accuracy"]
    own = diagnoses.scans[diagnoses.scans["ratio_band"] == band]
    groups = [
        own[(own["set"] == "test") & (own["system"] == system)].groupby("fold") for system in (SYSTEMS[0], SYSTEMS[2])
    ]
    scores = [[metric(rows) for _, rows in group] for group in groups]
    found = t_test_table(diagnoses).frame.loc[("Test set", band, PAIR), "Accuracy"]
    assert len(scores[0]) == len(scores[1]) > 1
    assert found.value == pytest.approx(t_test_over_folds(*scores).p_value, nan_ok=True)
