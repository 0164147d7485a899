"""Estimate the remaining time of a study from the durations of its finished runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from custom_components.study.runs.run import Run


def seconds_left(
    waiting: Sequence[Run], seconds: Mapping[str, float], kinds: Mapping[str, str], workers: int
) -> float | None:
    """Estimate the remaining time in seconds.

    Args:
        waiting: runs that are not finished.
        seconds: durations of the finished runs, by name.
        kinds: kind of every run, by name.
        workers: number of parallel runs.

    Returns:
        Sum over kinds of mean duration times number of waiting runs, divided by the workers. A kind without finished
        runs uses the mean of its verb. None if a verb has no finished run.
    """
    by_kind = _means((kinds[name], value) for name, value in seconds.items() if name in kinds)
    by_verb = _means((verb_of(kinds[name]), value) for name, value in seconds.items() if name in kinds)
    expected = [by_kind.get(run.kind, by_verb.get(verb_of(run.kind))) for run in waiting]
    if any(value is None for value in expected):
        return None
    return sum(value for value in expected if value is not None) / workers


def verb_of(kind: str) -> str:
    """Last word of a kind: the verb.

    Example:
        >>> verb_of("attention_us train")
        'train'
    """
    return kind.split()[-1]


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


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return {key: sum(own) / len(own) for key, own in values.items()}
