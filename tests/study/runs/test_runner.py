import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from custom_components.study.runs.run import TRAINING
from custom_components.study.runs.run_folder import DONE, LOG, STARTED
from custom_components.study.runs.runner import Runner
from custom_components.study.runs.study_folder import study_folder

from tests.study.standin_runs import (
    OUTPUT,
    STANDIN,
    begin,
    command_of,
    execute,
    hashes_of,
    standin_plan,
    standin_run,
    texts,
)


@pytest.fixture(autouse=True)
def _standin_is_found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))


@pytest.fixture
def unbroken(tmp_path) -> dict[str, str]:
    execute(standin_plan(tmp_path / "unbroken"))
    return texts(tmp_path / "unbroken")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split("State:")[1].split()[0] != "Z"


@pytest.fixture
def running(tmp_path):
    """A study in a separate process, and the id of its run, which takes a minute."""
    study, file = begin(tmp_path, [standin_run(tmp_path, "train/0", seconds=60)]), tmp_path / "runs/train/0/out.pid"
    wait_until(lambda: file.is_file() and file.read_text(encoding="utf-8"))
    yield study, int(file.read_text(encoding="utf-8").split()[0])
    study.kill()
    study.join()


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_all_runs_are_executed_and_stamped(tmp_path):
    runs = standin_plan(tmp_path)
    outcome = execute(runs)
    assert list(outcome.seconds) == [run.name for run in runs]
    assert (outcome.before, outcome.failed) == ([], [])
    written = texts(tmp_path)
    assert list(written) == sorted(run.name for run in runs)
    assert all(len(text.splitlines()) == 3 for text in written.values())
    assert written["train/0"] != written["train/1"]
    stamp = json.loads((tmp_path / "runs/train/1" / DONE).read_text(encoding="utf-8"))
    assert stamp["hash"] == hashes_of(runs)["train/1"]
    assert stamp["seconds"] > 0


def test_finished_runs_are_not_executed_again(tmp_path):
    runs = standin_plan(tmp_path)
    first = execute(runs)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = execute(runs)
    assert again.before == [run.name for run in runs]
    assert again.seconds == pytest.approx(first.seconds, abs=0.001)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times


def test_a_run_with_another_hash_is_repeated_in_an_empty_folder(tmp_path):
    execute(standin_plan(tmp_path, steps=5))
    (tmp_path / "runs/alone/0/old.txt").touch()
    outcome = execute(standin_plan(tmp_path, steps=2))
    assert outcome.before == []
    assert all(len(text.splitlines()) == 2 for text in texts(tmp_path).values())
    assert not (tmp_path / "runs/alone/0/old.txt").exists()


def test_a_failed_run_is_reported_its_dependents_are_skipped_and_the_rest_continues(tmp_path):
    plan = standin_plan(tmp_path)
    plan[0] = standin_run(tmp_path, "train/0", fails_at=1)
    plan.append(standin_run(tmp_path, "figure/0", ("evaluate/0",)))
    outcome = execute(plan)
    assert [(run.name, run.reason) for run in outcome.failed] == [
        ("train/0", "Case 012: label has value 7."),
        ("evaluate/0", "not run because train/0 failed"),
        ("figure/0", "not run because evaluate/0 failed"),
    ]
    assert sorted(outcome.seconds) == ["alone/0", "evaluate/1", "train/1"]
    assert not (tmp_path / "runs/train/0" / DONE).exists()
    assert "root_cause" in (tmp_path / "runs/train/0" / LOG).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"steps": 0}, f"ended without writing {OUTPUT}"),
        ({"dies_at": 1}, "ended by signal SIGKILL, possibly because the system ran out of memory"),
    ],
)
def test_a_run_that_ends_without_its_output_or_by_a_signal_has_failed(tmp_path, numbers, reason):
    (failed,) = execute([standin_run(tmp_path, "train/0", **numbers)]).failed
    assert failed.reason == reason
    assert not (tmp_path / "runs/train/0" / DONE).exists()


def test_a_killed_study_leaves_no_run_behind_and_nothing_that_looks_finished(running, tmp_path):
    study, pid = running
    study.kill()
    wait_until(lambda: not is_alive(pid), 5)
    assert (tmp_path / "runs/train/0" / STARTED).is_file()
    assert not (tmp_path / "runs/train/0" / DONE).exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_killed_at_random_moments_ends_like_an_uninterrupted_one(tmp_path, unbroken, workers):
    chance, folder, kills = random.Random(workers), tmp_path / "killed", 0
    runs = standin_plan(folder, seconds=0.3)  # a run takes 0.9 s: the first two are killed for sure
    while kills < 100:
        study = begin(folder, runs, workers)
        study.join(chance.uniform(0.1, 0.6 + 0.2 * kills))
        if study.exitcode is not None:
            break
        study.kill()
        study.join()
        kills += 1
    assert study.exitcode == 0
    assert kills >= 2
    assert texts(folder) == unbroken
    assert len(list(folder.rglob(DONE))) == len(runs)


def test_a_second_study_in_the_same_folder_is_refused_as_long_as_a_run_of_the_first_lives(running, tmp_path):
    study, pid = running
    message = r"Another study, or a run of it, is using .*\. Wait until it ends, stop it, or choose another folder\."
    with pytest.raises(ValueError, match=message), study_folder(tmp_path, "standin", wait_s=0.3):
        pass
    os.kill(pid, signal.SIGSTOP)  # it cannot end with its study
    study.kill()
    study.join()
    with pytest.raises(ValueError, match=message), study_folder(tmp_path, "standin", wait_s=0.3):
        pass
    os.kill(pid, signal.SIGCONT)
    with study_folder(tmp_path, "standin", wait_s=10):
        assert not is_alive(pid)


def test_an_interrupted_study_ends_its_runs_before_it_ends_itself(running, tmp_path):
    study, pid = running
    os.kill(study.pid, signal.SIGINT)
    study.join(30)
    assert not is_alive(pid)
    assert study.exitcode == 1
    assert not (tmp_path / "runs/train/0" / DONE).exists()


def test_each_worker_has_its_gpu_and_one_run_at_a_time(tmp_path):
    runs = [standin_run(tmp_path, f"train/{number}", steps=2, seconds=0.4) for number in range(4)]
    began = time.monotonic()
    outcome = execute(runs, workers=[{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}])
    assert time.monotonic() - began < sum(outcome.seconds.values())
    seen = [(run.folder / "out.pid").read_text(encoding="utf-8").splitlines()[1] for run in runs]
    assert set(seen) == {"5", "7"}
    assert set(seen[:2]) == {"5", "7"}


def checkpoint_left_by(run, run_hash: str) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / STARTED).write_text(json.dumps({"hash": run_hash}), encoding="utf-8")
    run.places["ckpt_dir"].mkdir()
    (run.places["ckpt_dir"] / "resume_checkpoint_epoch=3.pt").touch()


@pytest.mark.parametrize(
    ("asked", "same", "verb", "resumed"),
    [
        (True, True, TRAINING, True),
        (False, True, TRAINING, False),
        (True, False, TRAINING, False),
        (True, True, "evaluating", False),
    ],
)
def test_an_interrupted_training_is_resumed_on_request(tmp_path, asked, same, verb, resumed):
    told = []

    def command(run, resume):
        told.append(resume)
        return command_of(run, resume)

    run = replace(standin_run(tmp_path, "train/0"), verb=verb)
    checkpoint_left_by(run, "h" if same else "other")
    Runner(resume_runs=asked, command_of=command).execute([run], {run.name: "h"})
    assert told == [resumed]
    assert (run.places["ckpt_dir"] / "resume_checkpoint_epoch=3.pt").exists() == resumed


@pytest.mark.parametrize("keep", [False, True])
def test_disposable_files_are_removed_from_a_finished_run(tmp_path, keep):
    run = replace(standin_run(tmp_path, "train/0"), disposable=("*.pid", "models/*.pt"))
    execute([run], keep_checkpoints=keep)
    assert (run.folder / "out.pid").exists() == keep
    assert (run.folder / DONE).is_file()


def test_runs_may_need_runs_of_an_earlier_plan(tmp_path):
    first = [standin_run(tmp_path, "train/0"), standin_run(tmp_path, "train/1", fails_at=0)]
    later = [standin_run(tmp_path, f"show/{number}", (f"train/{number}",)) for number in (0, 1)]
    runner, hashes = Runner(command_of=command_of), hashes_of([*first, *later])
    outcome = runner.execute(later, hashes, runner.execute(first, hashes))
    assert list(outcome.seconds) == ["train/0", "show/0"]
    assert [run.name for run in outcome.failed] == ["train/1", "show/1"]
