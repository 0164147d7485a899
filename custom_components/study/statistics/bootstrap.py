"""Bootstrap by patient: confidence intervals for any metric of a table of cases.

B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), Ch. 13; whole patients are drawn because scans of
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

# Function from a table of cases to a number; None or NaN if undefined.
Statistic = Callable[["pd.DataFrame"], float | None]

# Resamples per block: the weights of 3,000 cases take 6 MB.
_CHUNK = 250


@dataclass(frozen=True)
class BootstrapInterval:
    """Metric with bootstrap interval.

    Args:
        value: metric over all cases; NaN if undefined.
        low: lower limit; NaN if the metric is undefined in every resample.
        high: upper limit, likewise.
        n_undefined: resamples in which the metric is undefined (a class is missing); excluded from the interval.
        resamples: total number of resamples.
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
    """Percentile interval of a metric: patients are drawn with replacement, each with all cases.

    A metric of :mod:`~custom_components.study.statistics.case_statistics` is computed for many resamples at once; any
    other function is called once per resample, on a table that repeats each case as often as it was drawn.

    With fewer than about 20 patients the interval is too narrow. If all cases agree (all correct), its width is zero:
    this is a limit of resampling, not certainty.

    Args:
        frame: one row per case.
        statistic: function from such a table to a number.
        groups: column that groups cases, such as the patient; None if each case is independent.
        resamples: number of resamples.
        level: confidence level, in (0, 1).
        seed: random seed. The order of the rows has no effect.

    Returns:
        Metric over all cases, interval, and number of resamples in which it is undefined.

    Raises:
        ValueError: if a case has no group, the column is missing, the metric is infinite, or ``level`` or
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
    """Paired interval of the metric difference of two systems, scored on the same drawn patients.

    The arguments after the tables are those of :func:`bootstrap_interval`. The tables, of the first and the second
    system, have the same cases in the same order.

    Returns:
        Metric of the first minus metric of the second system, with interval.

    Raises:
        ValueError: if the tables have different cases, and as for :func:`bootstrap_interval`.

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
        raise ValueError(f"The systems have {len(frame_a)} and {len(frame_b)} cases. Expected the same cases.")
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
    value = combine([np.array([_number(statistic(frame))]) for frame in frames])[0]
    if np.isinf(value):
        raise ValueError(
            f"The metric over all cases is {value}. Expected finite values: find the case with the infinite value."
        )
    chunks = _draws(_codes(frames[0], groups), resamples, seed)
    values = np.concatenate([combine([_resampled(frame, statistic, draw) for frame in frames]) for draw in chunks])
    defined = values[~np.isnan(values)]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (math.nan, math.nan)
    return BootstrapInterval(float(value), float(low), float(high), resamples - len(defined), resamples)


def _codes(frame: "pd.DataFrame", groups: str | None) -> np.ndarray:
    """Group index of each case, 0 to G - 1, in the order of the group names."""
    if groups is None:
        return np.arange(len(frame))
    if groups not in frame.columns:
        raise ValueError(f"The table has no column {groups}. Expected one of {', '.join(map(str, frame.columns))}.")
    names = frame[groups]
    missing = int((names.isna() | (names.astype(str) == "")).sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(frame)} cases have no {groups}. Fill in the column, or set groups to None to "
            "treat each case as independent."
        )
    return np.unique(names.astype(str), return_inverse=True)[1]


def _draws(codes: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Count of each case in each resample, shape (resamples, N), in blocks of resamples."""
    generator = np.random.default_rng(seed)
    num_groups = int(codes.max(initial=-1)) + 1
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


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _check_same_cases(frame_a: "pd.DataFrame", frame_b: "pd.DataFrame", column: str | None) -> None:
    both = [frame[column].astype(str).tolist() if column in frame else None for frame in (frame_a, frame_b)]
    if both[0] != both[1]:
        raise ValueError(
            f"The systems' tables differ in {column}. Expected the same cases in the same order: keep the common "
            "cases and sort by case_id."
        )
