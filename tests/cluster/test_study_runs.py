import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from custom_components.cluster.connection import ClusterOptions
from custom_components.files.lock import held_alone
from custom_components.study.runs import ray_processes
from custom_components.study.runs.fingerprints import code_state
from custom_components.study.runs.node_run import run_here, run_lock, wait_until_free
from custom_components.study.runs.ray_processes import ray_launch
from custom_components.study.runs.run_folder import DONE

from tests.cluster.conftest import ROOT, add_node, standin_folder
from tests.study.standin_runs import execute, standin_plan, standin_run, texts

DRIVER = """
import sys
from pathlib import Path
from custom_components.cluster.connection import ClusterOptions
from custom_components.study.runs.ray_processes import ray_launch
from tests.study.standin_runs import execute, standin_plan

folder, address = sys.argv[1:]
with ray_launch(ClusterOptions(address, 3, 1)) as (launch, count):
    execute(standin_plan(Path(folder), seconds=0.5), workers=[{}] * count, launch=launch)
"""


@pytest.fixture(autouse=True)
def _standin_is_found(monkeypatch, request):
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster")  # starts with the paths of its own
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{standin_folder()}")


def execute_on(options: ClusterOptions, plan):
    with ray_launch(options) as (launch, count):
        return execute(plan, workers=[{}] * count, launch=launch)


def test_the_runs_are_those_of_one_computer(options, tmp_path):
    execute(standin_plan(tmp_path / "here"))
    outcome = execute_on(options, standin_plan(tmp_path / "there"))
    assert outcome.failed == []
    assert sorted(outcome.seconds) == sorted(run.name for run in standin_plan(tmp_path))
    assert texts(tmp_path / "there") == texts(tmp_path / "here")
    again = execute_on(options, standin_plan(tmp_path / "there"))
    assert sorted(again.before) == sorted(outcome.seconds)


def test_a_failed_run_has_its_reason_and_its_dependents_are_skipped(options, tmp_path):
    plan = standin_plan(tmp_path)
    plan[0] = standin_run(tmp_path, "train/0", fails_at=1)
    outcome = execute_on(options, plan)
    assert [(run.name, run.reason) for run in outcome.failed] == [
        ("train/0", "Case 012: label has value 7."),
        ("evaluate/0", "not run because train/0 failed"),
    ]


def test_a_run_on_a_lost_node_is_repeated_on_another(cluster, tmp_path):
    node, plan = add_node(cluster), standin_plan(tmp_path / "there", seconds=4)
    with ray_launch(ClusterOptions(cluster.address, 4, 1)) as (launch, count):
        attempts = []

        def launch_and_lose(run, begin, *rest):
            def counted():
                attempts.append(run.name)
                return begin()

            return launch(run, counted, *rest)

        def lose():
            time.sleep(6)
            cluster.remove_node(node, allow_graceful=False)

        import threading

        thread = threading.Thread(target=lose)
        thread.start()
        outcome = execute(plan, workers=[{}] * count, launch=launch_and_lose)
        thread.join()
    assert outcome.failed == []
    execute(standin_plan(tmp_path / "here"))
    assert texts(tmp_path / "there") == texts(tmp_path / "here")
    assert len(attempts) >= len(plan)


def test_a_killed_study_resumes(cluster, tmp_path):
    words = [sys.executable, "-c", DRIVER, tmp_path / "there", cluster.address]
    with subprocess.Popen(list(map(str, words))) as driver:
        while not list((tmp_path / "there").rglob(DONE)):
            assert driver.poll() is None
            time.sleep(0.1)
        driver.send_signal(signal.SIGKILL)
    outcome = execute_on(ClusterOptions(cluster.address, 3, 1), standin_plan(tmp_path / "there", seconds=0.5))
    assert outcome.failed == []
    assert outcome.before
    execute(standin_plan(tmp_path / "here"))
    assert texts(tmp_path / "there") == texts(tmp_path / "here")


def test_a_node_with_other_code_or_files_does_not_run_it(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("epochs: 1")
    status, problem = run_here([], tmp_path, {**code_state(), "monai": "0.1"}, {})
    assert (status, problem.split(". ")[0].split(": ")[0]) == (1, "The code of a node differs")
    assert "monai is " in problem
    assert run_here([], tmp_path, code_state(), {str(file): "another"}) == (
        1,
        f"A node has no or another {file}. Choose folders that all nodes share.",
    )


def test_a_run_waits_for_the_process_of_an_earlier_attempt(tmp_path):
    lock = run_lock(tmp_path / "train")
    wait_until_free(lock)
    with held_alone(lock), pytest.raises(ValueError, match="An earlier process of this run still holds"):
        wait_until_free(lock, wait_s=0.3)
    with held_alone(lock):
        assert run_here([], tmp_path / "train", code_state(), {}) == (
            1,
            "An earlier process of this run has not ended.",
        )


def test_a_run_whose_nodes_are_all_lost_says_so(tmp_path, monkeypatch):
    class LostError(Exception):
        pass

    class Ray:
        exceptions = type("E", (), {"RayError": LostError})

        def wait(self, refs, timeout):
            return refs, []

        def get(self, ref):
            raise LostError

    class Task:
        calls = 0

        def remote(self, *_):
            Task.calls += 1

    run = standin_run(tmp_path, "train/0")

    def begin():
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "started.json").write_text(json.dumps({}))
        return ["python"]

    process = ray_processes.RayProcess(Ray(), Task(), run, begin, {}, None)
    polls = [process.poll() for _ in range(ray_processes.ATTEMPTS)]
    assert polls == [None] * (ray_processes.ATTEMPTS - 1) + [1]
    assert Task.calls == ray_processes.ATTEMPTS
    assert (Path(run.folder) / "log.txt").read_text().startswith("The node or worker of this run was lost 4 times")
