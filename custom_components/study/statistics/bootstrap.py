"""Bootstrap by patient: intervals of any metric of a table of cases.

B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), Ch. 13; whole patients are drawn, since scans of
one patient are not independent (C. A. Field, A. H. Welsh, J. R. Stat. Soc. B 69 (2007), pp. 369-390).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from custom_components.study.statistics.case_statistics import CaseStatistic
from custom_components.study.statistics.labelled_scores import check_level

if TYPE_CHECKING:
    import pandas as pd

# A number made from a table of cases; None or NaN where it is not defined.
Statistic = Callable[["pd.DataFrame"], float | None]

# Resamples whose weights are in memory at a time: 3,000 cases take 6 MB.
_CHUNK = 250


@dataclass(frozen=True)
class BootstrapInterval:
    """A metric with its bootstrap interval.

    Args:
        value: of all cases; NaN where it is not defined.
        low: lower end; NaN when it is defined in no resample.
        high: upper end, likewise.
        n_undefined: resamples without it, such as those in which a class is missing; the interval is of the others.
        resamples: drawn in all.
    """

    value: float
    low: float
    high: float
    n_undefined: int
    resamples: int


def bootstrap_interval(
    frame: "pd.DataFrame",
    statistic: Statistic,
    groups: str | None = "patient_id",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapInterval:
    """Percentile interval of a metric: as many patients as there are, drawn with replacement, with all their cases.

    A metric of :mod:`~custom_components.study.statistics.case_statistics` is computed for many resamples at once; any
    other function of a table once for each resample, on a table in which a case is there as often as it was drawn.

    The interval is only as good as the number of patients: with fewer than about 20 it is too narrow. Where all cases
    agree (all correct) it has no width: that is what resampling can say, not certainty.

    Args:
        frame: one row a case.
        statistic: from such a table to a number.
        groups: column by which cases belong together; None where each case stands alone.
        resamples: how many to draw.
        level: of confidence, in (0, 1).
        seed: of the draws. The order of the rows has no effect on them.

    Returns:
        The metric of all cases, its interval, and how many resamples did not define it.

    Raises:
        ValueError: when a case has no group, the column is missing, the metric is infinite, or ``level`` or
            ``resamples`` is not valid.

    Example:
        >>> import pandas as pd
        >>> from custom_components.study.statistics.case_statistics import mean_of
        >>> cases = pd.DataFrame({"patient_id": list("aabcd"), "dice": [0.5, 0.5, 0.6, 0.7, 0.8]})
        >>> interval = bootstrap_interval(cases, mean_of("dice"))
        >>> interval.low <= interval.value <= interval.high, interval.n_undefined
        (True, 0)
    """
    return _interval([frame], statistic, lambda values: values[0], groups, resamples, level, seed)


def bootstrap_difference(
    frame_a: "pd.DataFrame",
    frame_b: "pd.DataFrame",
    statistic: Statistic,
    groups: str | None = "patient_id",
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapInterval:
    """Paired interval of the difference of a metric between two systems: both are scored on the same drawn patients.

    Args:
        frame_a: one row a case, of the first system.
        frame_b: the same cases in the same order, of the second.
        statistic: as for :func:`bootstrap_interval`.
        groups: likewise.
        resamples: likewise.
        level: likewise.
        seed: likewise.

    Returns:
        The metric of the first minus that of the second, and its interval.

    Raises:
        ValueError: when the tables are not of the same cases, and as for :func:`bootstrap_interval`.

    Example:
        >>> import pandas as pd
        >>> from custom_components.study.statistics.case_statistics import mean_of
        >>> first = pd.DataFrame({"patient_id": list("abc"), "dice": [0.5, 0.7, 0.9]})
        >>> difference = bootstrap_difference(first, first.assign(dice=first["dice"] - 0.25), mean_of("dice"))
        >>> round(difference.value, 6), round(difference.low, 6), round(difference.high, 6)
        (0.25, 0.25, 0.25)
    """
    for column in {"case_id", groups} & {*frame_a.columns, *frame_b.columns}:
        _check_same_cases(frame_a, frame_b, column)
    if len(frame_a) != len(frame_b):
        raise ValueError(f"The systems have {len(frame_a)} and {len(frame_b)} cases. Expected the same ones.")
    frames = [frame_a, frame_b]
    return _interval(frames, statistic, lambda values: values[0] - values[1], groups, resamples, level, seed)


def _interval(
    frames: "list[pd.DataFrame]",
    statistic: Statistic,
    combine: Callable[[list[np.ndarray]], np.ndarray],
    groups: str | None,
    resamples: int,
    level: float,
    seed: int,
) -> BootstrapInterval:
    check_level(level)
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}. Expected at least 1, such as 2000.")
    value = combine([np.array([_finite_number(statistic(frame))]) for frame in frames])[0]
    chunks = _draws(_codes(frames[0], groups), resamples, seed)
    values = np.concatenate([combine([_resampled(frame, statistic, draw) for frame in frames]) for draw in chunks])
    defined = values[~np.isnan(values)]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (math.nan, math.nan)
    return BootstrapInterval(float(value), float(low), float(high), resamples - len(defined), resamples)


def _codes(frame: "pd.DataFrame", groups: str | None) -> np.ndarray:
    """Number of each case's group, 0 to G - 1, in the order of their names."""
    if groups is None:
        return np.arange(len(frame))
    if groups not in frame.columns:
        raise ValueError(f"The table has no column {groups}. Expected one of {', '.join(map(str, frame.columns))}.")
    names = frame[groups]
    missing = int((names.isna() | (names.astype(str) == "")).sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(frame)} cases have no {groups}. Fill the column in, or set groups to None to take "
            "each case for itself."
        )
    return np.unique(names.astype(str), return_inverse=True)[1]


def _draws(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each case is in each resample, shape (resamples, N), some resamples at a time."""
    generator = np.random.default_rng(seed)
    num_groups = int(codes.max()) + 1 if len(codes) else 0
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        if not num_groups:
            yield np.zeros((size, 0), dtype=np.int64)
            continue
        yield generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=size)[:, codes]


def _resampled(frame: "pd.DataFrame", statistic: Statistic, draw: np.ndarray) -> np.ndarray:
    if isinstance(statistic, CaseStatistic):
        return statistic.weighted(frame, draw)
    rows = np.arange(len(frame))
    return np.array([_number(statistic(frame.take(np.repeat(rows, counts)))) for counts in draw])


def _finite_number(value: float | None) -> float:
    if value is not None and math.isinf(value):
        raise ValueError(f"The metric of all cases is {value}. Expected finite values: look for the infinite one.")
    return _number(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _check_same_cases(frame_a: "pd.DataFrame", frame_b: "pd.DataFrame", column: str | None) -> None:
    both = [frame[column].astype(str).tolist() if column in frame else None for frame in (frame_a, frame_b)]
    if both[0] != both[1]:
        raise ValueError(
            f"The systems' tables differ in {column}. Expected the same cases in the same order: keep those that both "
            "have, and sort by case_id."
        )
