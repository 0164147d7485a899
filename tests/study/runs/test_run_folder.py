import json
from dataclasses import replace

import pytest
from custom_components.study.runs.run_folder import (
    DONE,
    LOG,
    STARTED,
    can_resume,
    failure_reason,
    finished_seconds,
    mark_started,
    stamp_done,
)

from tests.study.standin_runs import OUTPUT, standin_run

CAUSE = "2026-11-22 06:00:00,000 - custom_components.engines.root_cause - ERROR - "


@pytest.fixture
def run(tmp_path):
    made = replace(standin_run(tmp_path, "train/0"), disposable=("models/*.pt",))
    mark_started(made, "h")
    (made.folder / OUTPUT).write_text("1", encoding="utf-8")
    return made


def test_a_stamped_run_is_finished_as_long_as_its_hash_and_outputs_stay(run):
    assert finished_seconds(run, "h") is None
    stamp_done(run, "h", 12.5)
    assert finished_seconds(run, "h") == 12.5
    assert finished_seconds(run, "other") is None
    (run.folder / OUTPUT).write_bytes(b"")
    assert finished_seconds(run, "h") is None
    (run.folder / OUTPUT).unlink()
    assert finished_seconds(run, "h") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"hash": "other"}'])
def test_an_invalid_stamp_does_not_count(run, content):
    (run.folder / DONE).write_text(content, encoding="utf-8")
    assert finished_seconds(run, "h") is None


def test_restarting_empties_the_folder_and_resuming_does_not(run):
    stamp_done(run, "h", 1.0)
    mark_started(run, "h", resume=True)
    assert {path.name for path in run.folder.iterdir()} == {STARTED, OUTPUT}
    mark_started(run, "h")
    assert [path.name for path in run.folder.iterdir()] == [STARTED]


def test_the_stamp_comes_last(run, monkeypatch):
    (run.folder / "models").mkdir()
    (run.folder / "models/old.pt").touch()

    def refuse(path, content):
        assert not (run.folder / "models/old.pt").exists()
        raise OSError("disk full")

    monkeypatch.setattr("custom_components.study.runs.run_folder.write_json", refuse)
    with pytest.raises(OSError, match="disk full"):
        stamp_done(run, "h", 1.0)
    assert not (run.folder / DONE).exists()
    assert (run.folder / STARTED).exists()


def test_only_the_same_training_with_a_checkpoint_can_be_resumed(run):
    assert not can_resume(run, "h")
    run.places["ckpt_dir"].mkdir()
    (run.places["ckpt_dir"] / "resume_checkpoint_epoch=2.pt").touch()
    assert can_resume(run, "h")
    assert not can_resume(run, "other")
    assert not can_resume(replace(run, verb="evaluating"), "h")
    assert json.loads((run.folder / STARTED).read_text(encoding="utf-8")) == {"run": "train/0", "hash": "h"}


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (f"Traceback\nRuntimeError: x\n{CAUSE}Case 012: label has value 7.\n", 1, "Case 012: label has value 7."),
        (f"{CAUSE}first\n{CAUSE}second\nlast line\n", 1, "second"),
        ("Traceback\nModuleNotFoundError: No module named 'x'\n\n", 1, "ModuleNotFoundError: No module named 'x'"),
        (None, 3, "exited with status 3 without a message"),
        ("whatever", -15, "ended by signal SIGTERM"),
        ("x" * 1000, 1, "x" * 400 + " ..."),
    ],
    ids=["root cause", "last cause", "last line", "no log", "terminated", "long"],
)
def test_the_reason_is_one_line_that_names_the_cause(tmp_path, text, status, reason):
    if text is not None:
        (tmp_path / LOG).write_text(text, encoding="utf-8")
    assert failure_reason(tmp_path, status) == reason
