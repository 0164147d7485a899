"""Estimate the remaining time of a study from the durations of its finished runs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from custom_components.study.runs.run import Run


def expected_seconds(
    waiting: Sequence[Run],
    seconds: Mapping[str, float],
    kinds: Mapping[str, str],
    estimates: Mapping[str, float] | None = None,
) -> dict[str, float] | None:
    """Expected duration in seconds of each waiting run, by name; None if one is not known.

    It is the mean of the finished runs of its kind, otherwise of its verb (the last word of a kind), otherwise its
    estimate.

    Args:
        waiting: runs that are not finished.
        seconds: durations of the finished runs, by name.
        kinds: kind of every run, by name.
        estimates: estimated durations of runs, by name.
    """
    known: dict[str, list[float]] = defaultdict(list)
    for name, value in seconds.items():
        if name in kinds:
            known[kinds[name]].append(value)
            known[kinds[name].split()[-1]].append(value)
    guessed = estimates or {}
    alike = {run.name: known.get(run.kind) or known.get(run.kind.split()[-1]) for run in waiting}
    found = {name: fmean(own) if own else guessed.get(name) for name, own in alike.items()}
    expected = {name: value for name, value in found.items() if value is not None}
    return expected if len(expected) == len(found) else None


def seconds_left(
    waiting: Sequence[Run], seconds: Mapping[str, float], kinds: Mapping[str, str], workers: int
) -> float | None:
    """Estimate the remaining time in seconds; None if a verb (the last word of a kind) has no finished run.

    It is the sum of the :func:`expected_seconds` of the waiting runs, divided by the workers.

    Args:
        waiting: runs that are not finished.
        seconds: durations of the finished runs, by name.
        kinds: kind of every run, by name.
        workers: number of parallel runs.
    """
    expected = expected_seconds(waiting, seconds, kinds)
    return None if expected is None else sum(expected.values()) / workers


def in_words(seconds: float | None) -> str:
    """Format a duration with at most two units.

    Example:
        >>> in_words(59), in_words(3700), in_words(200_000), in_words(None)
        ('1 min', '1 h 2 min', '2 d 7 h', 'not known yet')
    """
    if seconds is None:
        return "not known yet"
    minutes = max(round(seconds / 60), 1)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
