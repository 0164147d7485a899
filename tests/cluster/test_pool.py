import itertools
import time
from pathlib import Path

import pytest
from custom_components.cluster import pool as pool_module
from custom_components.cluster.connection import ClusterOptions
from custom_components.cluster.pool import ray_pool
from custom_components.cluster.versions import code_versions

from tests.cluster import works
from tests.cluster.conftest import add_node
from tests.cluster.works import Tiny


def answers(work, options, cases):
    with ray_pool(work, options) as pool:
        return list(pool.results(cases))


def test_each_case_gets_the_answer_of_the_function(options):
    found = answers(Tiny(works.negative), options, range(20))
    assert {answer.case: answer.result for answer in found} == {number: -number for number in range(20)}
    assert len(found) == 20


def test_cases_are_read_as_workers_become_free(options):
    """Of an endless list, never more are read than were answered, plus one for each worker."""
    read = 0

    def endless():
        nonlocal read
        for number in itertools.count():
            read += 1
            yield number

    with ray_pool(Tiny(works.negative), options) as pool:
        for count, _ in enumerate(itertools.islice(pool.results(endless()), 50), start=1):
            assert read <= count + options.workers


def test_a_case_that_kills_its_workers_is_given_up_after_two_and_the_others_are_done(options):
    found = answers(Tiny(works.dies_at_three), options, range(8))
    assert {answer.case: answer.result for answer in found} == {**{n: -n for n in range(8)}, 3: None}
    (lost,) = (answer.lost for answer in found if answer.case == 3)
    assert lost.startswith("its worker ended 2 times (on ")
    assert "--cores" in lost
    assert [answer.lost for answer in found if answer.case != 3] == [""] * 7


def test_a_case_whose_worker_was_killed_is_repeated_by_another(options, tmp_path):
    found = answers(Tiny(works.dies_once), options, [(number, str(tmp_path)) for number in range(5)])
    assert [answer.lost for answer in found] == [""] * 5
    (again,) = (answer.result for answer in found if answer.case[0] == 3)
    assert again != int((tmp_path / "mark").read_text())


def test_nothing_is_lost_or_done_twice_when_a_node_is_lost(cluster):
    node, seen = add_node(cluster), []
    with ray_pool(Tiny(works.slow_negative), ClusterOptions(cluster.address, workers=4, cores=1)) as pool:
        for answer in pool.results(range(60)):
            seen.append(answer)
            busy_nodes = {worker.node for worker in (*pool._idle, *(own for own, _ in pool._busy.values()))}
            if node is not None and node.node_id in busy_nodes:
                cluster.remove_node(node, allow_graceful=False)
                node = None
    assert node is None
    assert sorted(answer.case for answer in seen) == list(range(60))
    assert all(answer.result == -answer.case for answer in seen)


def test_other_versions_on_a_node_end_the_run(options, monkeypatch):
    monkeypatch.setattr(pool_module, "code_versions", lambda: {**code_versions(), "torch": "1.0.0"})
    with pytest.raises(ValueError, match=r"^Node \S+ cannot work: torch is \S+ there and 1.0.0 here. Install the same"):
        answers(Tiny(works.negative), options, range(3))


def test_a_node_that_does_not_fit_ends_the_run_with_its_reason(options):
    with pytest.raises(ValueError, match=r"^Node \S+ cannot work: VB-Net is missing there$"):
        answers(Tiny(works.negative, problem="VB-Net is missing there"), options, range(3))


def test_workers_that_end_while_they_load_end_the_run(options):
    with pytest.raises(ValueError, match=r"^3 workers in a row ended while they loaded \(ActorDiedError\).*--cores"):
        answers(Tiny(works.negative, problem="killed"), options, range(3))


def test_nodes_that_compute_differently_end_the_run(options, tmp_path):
    with pytest.raises(ValueError, match=r"^Node \S+ computes with .*, node \S+ with .*--precision fp32"):
        answers(Tiny(works.slow_negative, marks=tmp_path), options, range(200))


def test_a_worker_larger_than_every_node_is_an_error(cluster):
    with pytest.raises(ValueError, match="No node of the cluster has 64 CPU cores for a worker"):
        answers(Tiny(works.negative), ClusterOptions(cluster.address, cores=64), range(3))


def test_an_error_of_the_list_is_the_error_of_the_run(options):
    def broken():
        yield 1
        raise ValueError("The folder is empty.")

    with pytest.raises(ValueError, match="The folder is empty"):
        answers(Tiny(works.negative), options, broken())


@pytest.mark.slow
def test_the_memory_of_the_command_does_not_grow_with_the_list(options):
    """Resident memory after 1,000 and after 20,000 cases."""
    sizes = {}
    with ray_pool(Tiny(works.negative), options) as pool:
        for count, _ in enumerate(pool.results(range(20_000)), start=1):
            if count in (1_000, 20_000):
                sizes[count] = resident_mb()
    assert sizes[20_000] - sizes[1_000] < 20


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 1e6


def test_waiting_for_workers_takes_little_time_for_each_case(options):
    """The way of a case to a worker and back."""
    with ray_pool(Tiny(works.negative), options) as pool:
        list(pool.results(range(20)))
        started = time.monotonic()
        list(pool.results(range(200)))
    assert (time.monotonic() - started) / 200 < 0.5
