from dataclasses import replace

import pandas as pd
import pytest

from tests.study.results_by_hand import SYSTEMS


def test_each_prediction_has_the_columns_of_its_scan(diagnoses):
    scans = diagnoses.scans
    assert len(scans) == len(diagnoses.predictions) == 4 * (54 + 3 * 32)
    row = scans[(scans["case_id"] == "test_covid_05") & (scans["system"] == SYSTEMS[2]) & (scans["fold"] == 1)].iloc[0]
    case = diagnoses.cases.set_index("case_id").loc["test_covid_05"]
    assert (row["label"], row["site"], row["patient_id"]) == (1, case["site"], case["patient_id"])
    assert scans["ratio_band"].isin(["< 0.005", "0.005 - 0.030", "> 0.030", ""]).all()


def test_the_order_of_the_rows_does_not_matter(diagnoses):
    shuffled = replace(
        diagnoses,
        cases=diagnoses.cases.sample(frac=1, random_state=3),
        predictions=diagnoses.predictions.sample(frac=1, random_state=4),
    )
    pd.testing.assert_frame_equal(shuffled.scans, diagnoses.scans)


def test_a_fold_without_predictions_is_missing(diagnoses):
    predictions = diagnoses.predictions
    gone = (predictions["system"] == SYSTEMS[1]) & (predictions["fold"] == 2) & (predictions["set"] == "test")
    assert diagnoses.missing_models == {}
    assert replace(diagnoses, predictions=predictions[~gone]).missing_models == {("test", SYSTEMS[1]): [2]}


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("predictions", {"case_id": "nobody"}, "Case nobody has a prediction but is in no datalist"),
        ("predictions", {"system": "ResNet"}, "Case tv_covid_00 has a prediction by an unknown system"),
        ("predictions", {"fold": 9}, "Case tv_covid_00 has two predictions by one system"),
        ("cases", {}, "Case tv_covid_00 is listed twice"),
    ],
)
def test_inconsistent_results_are_refused_with_the_case(diagnoses, table, change, message):
    frame = getattr(diagnoses, table)
    results = replace(diagnoses, **{table: pd.concat([frame, frame.iloc[[0]].assign(**change)], ignore_index=True)})
    with pytest.raises(ValueError, match=message):
        _ = results.scans


def test_a_datalist_column_does_not_replace_a_prediction_column_of_the_same_name(diagnoses):
    named = replace(diagnoses, cases=diagnoses.cases.assign(probability=0.5, system="PACS"))
    pd.testing.assert_frame_equal(named.scans, diagnoses.scans)
