from pathlib import Path

import pytest
from custom_components.study.runs.run import Run
from custom_components.study.runs.schedule import end_times, longest_chain, next_ready
from hypothesis import given
from hypothesis import strategies as st


def run_of(name: str, *needs: str) -> Run:
    return Run(name, "any", Path(), "training", (), Path(name), needs=needs)


@st.composite
def plans(draw):
    """Runs in an order in which each needs some of those before it, and their whole seconds."""
    count = draw(st.integers(1, 12))
    names = [f"run_{number}" for number in range(count)]
    needs = [draw(st.sets(st.sampled_from(names[:number]), max_size=3)) if number else set() for number in range(count)]
    runs = [run_of(name, *sorted(own)) for name, own in zip(names, needs, strict=True)]
    return runs, {name: draw(st.integers(1, 9)) for name in names}


def ends_second_by_second(runs, seconds, workers):
    """Oracle: each second, what is over leaves its worker, and free workers look through the plan from its start."""
    left, ends, second = {}, {}, 0
    while len(ends) < len(runs):
        for run in runs:
            ready = run.name not in left and all(name in ends for name in run.needs)
            if ready and sum(value > 0 for value in left.values()) < workers:
                left[run.name] = seconds[run.name]
        second += 1
        for name in left:
            left[name] -= 1
            if left[name] == 0:
                ends[name] = second
    return ends


@given(plans(), st.sampled_from([1, 2, 4, 8]))
def test_the_ends_are_those_of_a_clock_that_is_watched_every_second(plan, workers):
    runs, seconds = plan
    assert end_times(runs, seconds, workers) == ends_second_by_second(runs, seconds, workers)


@given(plans(), st.sampled_from([1, 2, 4, 8]))
def test_no_schedule_beats_the_total_work_or_the_longest_chain_and_none_wastes_more_than_that(plan, workers):
    runs, seconds = plan
    end, total, chain = max(end_times(runs, seconds, workers).values()), sum(seconds.values()), longest_chain(*plan)
    assert max(total / workers, chain) <= end <= total / workers + (1 - 1 / workers) * chain  # Graham 1966


@given(plans())
def test_one_worker_takes_the_total_and_enough_workers_the_longest_chain(plan):
    runs, seconds = plan
    assert max(end_times(runs, seconds, 1).values()) == sum(seconds.values())
    assert max(end_times(runs, seconds, len(runs)).values()) == longest_chain(runs, seconds)


def test_a_run_waits_for_those_that_it_needs_and_not_for_finished_ones():
    runs = [run_of("a"), run_of("b", "a", "finished before"), run_of("c")]
    assert end_times(runs, {"a": 5, "b": 1, "c": 2}, workers=2) == {"a": 5, "c": 2, "b": 6}
    assert longest_chain(runs, {"a": 5, "b": 1, "c": 2}) == 6
    assert next_ready(runs[1:2], {"a"}) is None
    assert next_ready(runs[1:], {"a", "finished before"}) is runs[1]


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_to_do_takes_no_time(workers):
    assert end_times([], {}, workers) == {}
    assert longest_chain([], {}) == 0
