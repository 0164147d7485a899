from pathlib import Path

import pytest
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_times import in_words, seconds_left


def run_of(name: str, kind: str) -> Run:
    return Run(name, kind, Path(), "training", (), Path(name))


KINDS = {"a": "m train", "b": "m train", "c": "m evaluate", "d": "unet train"}


def test_the_time_left_is_the_mean_of_each_kind():
    waiting = [run_of("e", "m train"), run_of("f", "m train"), run_of("g", "m evaluate")]
    left_s = seconds_left(waiting, {"a": 100.0, "b": 200.0, "c": 7.0}, KINDS, workers=1)
    assert left_s == pytest.approx(2 * 150 + 7)
    assert seconds_left(waiting, {"a": 100.0, "b": 200.0, "c": 7.0}, KINDS, workers=2) == pytest.approx(left_s / 2)


def test_a_kind_without_finished_runs_takes_the_mean_of_its_verb():
    assert seconds_left([run_of("e", "m_a train")], {"a": 100.0, "d": 40.0, "c": 7.0}, KINDS, 1) == pytest.approx(70)


def test_the_time_is_unknown_without_finished_runs():
    assert seconds_left([run_of("e", "m evaluate")], {"a": 100.0}, KINDS, 1) is None
    assert in_words(None) == "not known yet"
    assert seconds_left([], {}, KINDS, 1) == 0
