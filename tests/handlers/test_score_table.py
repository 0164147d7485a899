from contextlib import nullcontext

import pytest
import torch
from custom_components.engines.case_evaluator import CaseEvaluator
from custom_components.handlers import score_table
from custom_components.handlers.score_table import ScoreTable
from monai.data import MetaTensor, list_data_collate
from monai.engines import IterationEvents, SupervisedEvaluator

from tests.handlers.evaluator import evaluator_of


class Collected(ScoreTable):
    """Keeps the cases instead of writing them."""

    def describe(self, item):
        return {"case_id": item["name"], "sum": item["pred"].sum().item()}

    def write(self, engine, cases, kept):
        self.cases, self.kept = list(cases), list(kept)


class FailsOn:
    """A handler that fails for one case."""

    def __init__(self, name):
        self.name = name

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.take)

    def take(self, engine):
        if self.name in [item["name"] for item in engine.state.batch]:
            raise RuntimeError("cannot take it")


def batch_of(*cases):
    return list_data_collate([{"name": name, "image": image_of(value, path)} for name, value, path in cases])


def image_of(value, path):
    return MetaTensor(torch.full((1, 2, 3), float(value)), meta={} if path is None else {"filename_or_obj": path})


def collect(batches, output_dir, *handlers, kind=SupervisedEvaluator):
    report = Collected(output_dir)
    engine = evaluator_of(batches, report, *handlers, kind=kind)
    with pytest.raises(RuntimeError, match="cannot take it") if handlers else nullcontext():
        engine.run()
    return report


def test_name_and_file_together_identify_a_case(tmp_path):
    batches = [batch_of(("a", 1, "x.png"), ("b", 2, "x.png")), batch_of(("a", 3, "y.png"), ("a", 1, "x.png"))]
    report = collect(batches, tmp_path)
    assert report.cases == [{"case_id": "a", "sum": 6}, {"case_id": "b", "sum": 12}, {"case_id": "a", "sum": 18}]
    assert report.kept == [0, 1, 2]


def test_the_first_of_repeated_cases_is_kept(tmp_path, caplog):
    batches = [batch_of(("a", 1, "x.png")), batch_of(("a", 5, "x.png"), ("b", 2, "z.png"))]
    report = collect(batches, tmp_path)
    assert (report.cases, report.kept) == ([{"case_id": "a", "sum": 6}, {"case_id": "b", "sum": 12}], [0, 2])
    assert "1 of 3 scored cases are repeats" in caplog.text


def test_all_cases_without_name_and_file_are_kept(tmp_path):
    report = collect([batch_of(("unknown", 1, None), ("unknown", 1, None))], tmp_path)
    assert report.kept == [0, 1]


@pytest.mark.parametrize(("names", "left"), [("abc", ["a", "c"]), ("b", [])])
def test_a_case_that_fails_in_another_handler_is_not_kept(tmp_path, names, left):
    batches = [batch_of((name, 1, f"{name}.png")) for name in names]
    report = collect(batches, tmp_path, FailsOn("b"), kind=CaseEvaluator)
    assert [case["case_id"] for case in report.cases] == left
    assert report.kept == list(range(len(left)))


def test_the_cases_of_all_processes_are_collected(tmp_path, monkeypatch):
    elsewhere = []
    monkeypatch.setattr(score_table, "string_list_all_gather", lambda texts: elsewhere.extend(texts) or texts)
    collect([batch_of(("a", 1, "a.png"))], tmp_path / "other")
    monkeypatch.setattr(score_table, "string_list_all_gather", lambda texts: elsewhere + texts)
    assert [case["case_id"] for case in collect([batch_of(("b", 1, "b.png"))], tmp_path).cases] == ["a", "b"]


def test_a_second_run_does_not_keep_the_cases_of_the_first(tmp_path):
    report = Collected(tmp_path)
    engine = evaluator_of([batch_of(("a", 1, "a.png"))], report)
    engine.run()
    engine.data_loader = [batch_of(("b", 1, "b.png"))]
    engine.run()
    assert [case["case_id"] for case in report.cases] == ["b"]


def test_an_output_folder_without_write_access_is_an_error_before_the_first_case(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written to"):
        evaluator_of(iter(()), Collected(tmp_path / "file" / "scores")).run()
