from dataclasses import replace

import pytest
from custom_components.study.results.predicted_scans import of_system, predicted_scans
from custom_components.study.statistics.calibration import brier_score, expected_calibration_error
from custom_components.study.tables.calibration_table import calibration_table

from tests.study.results_by_hand import SYSTEMS


def test_joined_folds_give_one_number_and_test_models_their_mean(diagnoses):
    scans = predicted_scans(diagnoses)
    frame = calibration_table(diagnoses, scans).frame
    joined = of_system(scans, "tv", SYSTEMS[0])
    assert frame.loc[("TV set", SYSTEMS[0]), "ECE, equal width"].value == pytest.approx(
        expected_calibration_error(joined["label"], joined["probability"])
    )
    tested = of_system(scans, "test", SYSTEMS[1])
    scores = [brier_score(rows["label"], rows["probability"]) for _, rows in tested.groupby("fold")]
    cell = frame.loc[("Test set", SYSTEMS[1]), "Brier score"]
    assert cell.value == pytest.approx(sum(scores) / len(scores))
    assert cell.sd > 0


def test_the_share_of_covid_is_that_of_the_scored_scans(diagnoses):
    frame = calibration_table(diagnoses, predicted_scans(diagnoses)).frame
    assert frame.loc[("TV set", SYSTEMS[0]), "Share of COVID-19"].value == pytest.approx(23 / 54)
    assert frame.loc[("TV set", SYSTEMS[3]), "Share of COVID-19"].value == pytest.approx(23 / 53)
    assert frame.loc[("TV set", SYSTEMS[3]), "Scans"] == 53


def test_a_system_without_predictions_has_empty_cells(diagnoses):
    results = replace(diagnoses, predictions=diagnoses.predictions[diagnoses.predictions["system"] != SYSTEMS[1]])
    frame = calibration_table(results, predicted_scans(results)).frame
    assert {str(cell) for cell in frame.loc[("TV set", SYSTEMS[1])]} == {""}
