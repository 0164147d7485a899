"""When the runs of a study end, from their durations: each free worker takes the next run that can start."""

import heapq
from collections.abc import Container, Mapping, Sequence

from custom_components.study.runs.run import Run


def next_ready(waiting: Sequence[Run], finished: Container[str]) -> Run | None:
    """The run to start next: the first of the plan whose needed runs have finished; None if there is none.

    Args:
        waiting: runs that have not started, in the order of the plan.
        finished: names of the finished runs.
    """
    return next((run for run in waiting if all(name in finished for name in run.needs)), None)


def end_times(runs: Sequence[Run], seconds: Mapping[str, float], workers: int) -> dict[str, float]:
    """End of each run in seconds from now, if it takes as long as expected.

    A free worker takes the next ready run, as in a study. A needed run that is not among ``runs`` has finished before.

    Args:
        runs: runs to execute, each after those that it needs.
        seconds: duration of each run, by name.
        workers: number of parallel runs.

    Returns:
        The ends by run name, in the order in which the runs start.

    Example:
        >>> from pathlib import Path
        >>> train, score = (Run(name, name, Path(), "training", (), Path(name)) for name in ("train", "score"))
        >>> end_times([train, score], {"train": 60.0, "score": 5.0}, workers=2)
        {'train': 60.0, 'score': 5.0}
    """
    waiting, ends, now = list(runs), dict[str, float](), 0.0
    finished = {name for run in runs for name in run.needs} - {run.name for run in runs}
    busy: list[tuple[float, str]] = []
    while waiting or busy:
        while len(busy) < workers and (run := next_ready(waiting, finished)):
            waiting.remove(run)
            ends[run.name] = now + seconds[run.name]
            heapq.heappush(busy, (ends[run.name], run.name))
        now = busy[0][0]
        while busy and busy[0][0] <= now:
            finished.add(heapq.heappop(busy)[1])
    return ends


def longest_chain(runs: Sequence[Run], seconds: Mapping[str, float]) -> float:
    """Duration in seconds of the longest chain of runs that need each other: no number of workers is faster.

    Args:
        runs: runs to execute, each after those that it needs.
        seconds: duration of each run, by name.
    """
    ends: dict[str, float] = {}
    for run in runs:
        ends[run.name] = max((ends.get(name, 0.0) for name in run.needs), default=0.0) + seconds[run.name]
    return max(ends.values(), default=0.0)
