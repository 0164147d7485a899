from dataclasses import replace

import numpy as np
import pytest
from custom_components.study.results.predicted_scans import predicted_scans
from custom_components.study.tables.attention_table import attention_table

from tests.study.results_by_hand import SYSTEMS


def test_the_dice_is_the_mean_over_covid_scans_of_the_mean_over_models(diagnoses):
    frame = attention_table(diagnoses, predicted_scans(diagnoses), 40).frame
    assert list(frame.index) == [(name, system) for name in ("TV set", "Test set") for system in SYSTEMS[1:3]]
    chosen = diagnoses.predictions[
        (diagnoses.predictions["system"] == SYSTEMS[2]) & (diagnoses.predictions["set"] == "test")
    ]
    cell = frame.loc[("Test set", SYSTEMS[2]), "Dice"]
    assert cell.value == pytest.approx(chosen.groupby("case_id")["attention_dice"].mean().mean())
    assert frame.loc[("Test set", SYSTEMS[2]), "Scans"] == 19


def test_without_attention_there_is_no_row(diagnoses):
    results = replace(diagnoses, predictions=diagnoses.predictions.assign(attention_dice=np.nan))
    assert attention_table(results, predicted_scans(results), 40).frame.empty
