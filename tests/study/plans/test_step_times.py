from itertools import product

import pytest
from custom_components.study.plans.cap_study import CapStudy
from custom_components.study.plans.step_times import StepTimes
from custom_components.study.plans.study_data import scan_data

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

BUNDLE = ROOT / "covid_cap_bundle"
SETTINGS = {"epochs": 6, "val_interval": 4, "batch_size": 3, "accumulation_steps": 2, "norm_batches": 5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve scans in three folds, and four scans for a test."""
    folders = tmp_path_factory.mktemp("folds"), tmp_path_factory.mktemp("test")
    return scan_data(write_scans(folders[0])), scan_data(write_scans(folders[1], 1, "t"))


def seconds_scan_by_scan(seconds_per_step, training, validation, *, epochs, val_interval, batch_size, **own):
    """Oracle: a step's time is spread over its scans, a scored scan takes a third of a trained one."""
    trained = seconds_per_step / (batch_size * own["accumulation_steps"])
    total = 0.0
    for epoch in range(1, epochs + 1):
        total += sum(trained for _ in range(training))
        if epoch % val_interval == 0:
            total += sum(trained / 3 for _ in range(own["norm_batches"] * batch_size + validation))
    return total, sum(trained / 3 for _ in range(validation))


def test_a_training_is_its_epochs_and_validations_and_an_evaluation_its_scans():
    expected = seconds_scan_by_scan(12.0, 7, 5, **SETTINGS)
    steps = StepTimes(12.0, **SETTINGS)
    assert (steps.training_s(7, 5), steps.scoring_s(5)) == pytest.approx(expected)
    assert "2 s to train on a scan (3 x 2 scans a step), a third of it to score one" in steps.words()


def test_every_planned_run_of_a_study_is_estimated_from_its_own_scans_and_overrides(data, tmp_path):
    folds, test = data
    study = CapStudy(BUNDLE, tmp_path, folds, test=test, overrides=SETTINGS, seconds_per_step=12.0)
    training_s, evaluation_s = seconds_scan_by_scan(12.0, 8, 4, **SETTINGS)
    expected = {}
    for system, fold in product(("plain_us", "attention_us", "attention_ss"), (0, 1, 2)):
        each = {"train": training_s, "evaluate": evaluation_s, "test": evaluation_s}
        expected |= {f"{system}/fold_{fold}/{what}": value for what, value in each.items()}
    assert study.estimates() == pytest.approx(expected)
    assert set(expected) == {run.name for run in study.runs()}


def test_the_papers_numbers_are_the_default(data, tmp_path):
    study = CapStudy(BUNDLE, tmp_path, data[0], seconds_per_step=20.0)
    assert study.estimates()["attention_us/fold_0/train"] == pytest.approx(20 * 8 + 20 * 4 / 3)
    assert "1 s to train on a scan (20 x 1 scans a step)" in study.estimate_words


def test_without_a_measured_step_nothing_is_estimated_and_the_words_say_how_to_measure_one(data, tmp_path):
    study = CapStudy(BUNDLE, tmp_path, data[0])
    assert study.estimates() == {}
    assert "`python -m tools.gpu_check OUTPUT` measures the seconds of a step on a GPU" in study.estimate_words


def test_a_number_that_is_an_expression_cannot_be_estimated(data, tmp_path):
    study = CapStudy(BUNDLE, tmp_path, data[0], overrides={"epochs": "$2 * 3"}, seconds_per_step=1.0)
    with pytest.raises(ValueError, match=r"epochs is '\$2 \* 3'. An estimate needs a whole number"):
        study.estimates()
