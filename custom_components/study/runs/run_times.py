"""How long a study still takes, from what its runs took."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from custom_components.study.runs.run import Run


def seconds_left(
    waiting: Sequence[Run], seconds: Mapping[str, float], kinds: Mapping[str, str], workers: int
) -> float | None:
    """Estimate the seconds that runs will take.

    Args:
        waiting: runs that are not finished.
        seconds: of the finished ones, by name.
        kinds: kind of every run, by name.
        workers: runs at once.

    Returns:
        Mean seconds of each kind times its waiting runs, over the workers; a kind of which none is finished takes as
        long as the mean of those with the same verb. None when nothing is known of a verb.
    """
    by_kind = _means((kinds[name], value) for name, value in seconds.items() if name in kinds)
    by_verb = _means((verb_of(kinds[name]), value) for name, value in seconds.items() if name in kinds)
    expected = [by_kind.get(run.kind, by_verb.get(verb_of(run.kind))) for run in waiting]
    if any(value is None for value in expected):
        return None
    return sum(value for value in expected if value is not None) / workers


def verb_of(kind: str) -> str:
    """The last word of a kind, which says what is done.

    Example:
        >>> verb_of("attention_us train")
        'train'
    """
    return kind.split()[-1]


def in_words(seconds: float | None) -> str:
    """A duration, in two units at most.

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
