"""Statistics of a table of cases, vectorised over thousands of bootstrap weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from custom_components.study.statistics.labelled_scores import labelled_probabilities

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CaseStatistic:
    """Statistic of a table of cases with integer case weights.

    Calling it with a table returns the number, or NaN if undefined. ``weighted`` computes it for many resamples at
    once, as the bootstrap needs: 2,000 resamples of 3,000 cases take about a second.

    Args:
        name: name of the statistic.
        weighted: function from a table of N cases and integer weights of shape (R, N) to R numbers.

    Example:
        >>> import pandas as pd
        >>> cases = pd.DataFrame({"label": [1, 1, 0], "probability": [0.9, 0.2, 0.1]})
        >>> accuracy = CASE_STATISTICS["accuracy"]
        >>> accuracy.weighted(cases, np.array([[1, 1, 1], [2, 1, 1], [0, 2, 0]])).round(3).tolist()
        [0.667, 0.75, 0.0]
    """

    name: str
    weighted: Callable[["pd.DataFrame", np.ndarray], np.ndarray]

    def __call__(self, cases: "pd.DataFrame") -> float:
        """Compute the statistic with weight 1 for each case."""
        return float(self.weighted(cases, np.ones((1, len(cases)), dtype=np.int64))[0])


def mean_of(column: str) -> CaseStatistic:
    """Mean of a column, such as Dice; cases without a value (NaN) are excluded.

    Args:
        column: column name.

    Returns:
        The statistic; undefined if no case has a value.

    Example:
        >>> import pandas as pd
        >>> mean_of("dice")(pd.DataFrame({"dice": [0.5, np.nan, 0.75]}))
        0.625
    """

    def weighted(cases: "pd.DataFrame", weights: np.ndarray) -> np.ndarray:
        values = cases[column].to_numpy(dtype=np.float64)
        known = ~np.isnan(values)
        return _ratio(weights[:, known] @ values[known], weights[:, known].sum(axis=1))

    return CaseStatistic(f"mean of {column}", weighted)


def median_of(column: str) -> CaseStatistic:
    """Median of a column; cases without a value (NaN) are excluded.

    Args:
        column: column name.

    Returns:
        The statistic; undefined if no case has a value.

    Example:
        >>> import pandas as pd
        >>> cases = pd.DataFrame({"auc": [0.5, np.nan, 0.75, 1.0]})
        >>> median_of("auc")(cases), median_of("auc").weighted(cases, np.array([[1, 5, 1, 0], [0, 5, 0, 0]])).tolist()
        (0.75, [0.625, nan])
    """

    def weighted(cases: "pd.DataFrame", weights: np.ndarray) -> np.ndarray:
        values = cases[column].to_numpy(dtype=np.float64)
        order = np.argsort(values, kind="stable")[: int(np.count_nonzero(~np.isnan(values)))]  # NaN is sorted last
        if not len(order):
            return np.full(len(weights), np.nan)
        counts = np.cumsum(weights[:, order], axis=1)
        total = counts[:, -1:]
        middle = [values[order][np.argmax(counts > place, axis=1)] for place in ((total - 1) // 2, total // 2)]
        median: np.ndarray = np.where(total[:, 0] > 0, np.mean(middle, axis=0), np.nan)
        return median

    return CaseStatistic(f"median of {column}", weighted)


def score_statistics(threshold: float = 0.5) -> dict[str, CaseStatistic]:
    """AUC, accuracy, sensitivity, specificity and macro-F1 of a table with ``label`` and ``probability``.

    The values equal those of :func:`custom_components.metrics.classification_scores.classification_scores`.

    Args:
        threshold: a case is classified as COVID-19 if its probability is at least this.

    Returns:
        The statistics by name. Undefined (NaN): all without cases, sensitivity without COVID-19, specificity without
        CAP, AUC and macro-F1 with one class.

    Example:
        >>> import pandas as pd
        >>> cases = pd.DataFrame({"label": [1, 1, 0, 0], "probability": [0.9, 0.5, 0.6, 0.1]})
        >>> {name: round(statistic(cases), 3) for name, statistic in score_statistics().items()}
        {'auc': 0.75, 'accuracy': 0.75, 'sensitivity': 1.0, 'specificity': 0.5, 'macro_f1': 0.733}
    """

    def of_counts(name: str, compute: Callable[..., np.ndarray]) -> CaseStatistic:
        return CaseStatistic(name, lambda cases, weights: compute(*_counts(cases, weights, threshold)))

    return {
        "auc": CaseStatistic("auc", _auc),
        "accuracy": of_counts("accuracy", lambda tp, fn, tn, fp: _ratio(tp + tn, tp + fn + tn + fp)),
        "sensitivity": of_counts("sensitivity", lambda tp, fn, tn, fp: _ratio(tp, tp + fn)),
        "specificity": of_counts("specificity", lambda tp, fn, tn, fp: _ratio(tn, tn + fp)),
        "macro_f1": of_counts("macro_f1", _macro_f1),
    }


def _counts(cases: "pd.DataFrame", weights: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    covid, scores = labelled_probabilities(cases["label"], cases["probability"])
    called = scores >= threshold
    kinds = (covid & called, covid & ~called, ~covid & ~called, ~covid & called)
    return tuple(weights[:, kind].sum(axis=1) for kind in kinds)


def _macro_f1(tp: np.ndarray, fn: np.ndarray, tn: np.ndarray, fp: np.ndarray) -> np.ndarray:
    both = (tp + fn > 0) & (tn + fp > 0)
    mean = (_ratio(2 * tp, 2 * tp + fp + fn) + _ratio(2 * tn, 2 * tn + fp + fn)) / 2
    return np.where(both, mean, np.nan)


def _auc(cases: "pd.DataFrame", weights: np.ndarray) -> np.ndarray:
    """AUC: fraction of correctly ordered pairs; each COVID-19 case counts CAP cases below it and half of the ties."""
    covid, scores = labelled_probabilities(cases["label"], cases["probability"])
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-1.0))
    is_covid = covid[order]
    positive = np.add.reduceat(weights[:, order] * is_covid, starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~is_covid, starts, axis=1)
    doubled_wins = (positive * (2 * np.cumsum(negative, axis=1) - negative)).sum(axis=1)
    return _ratio(doubled_wins, 2 * positive.sum(axis=1) * negative.sum(axis=1))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
    return ratio


# The paper's five metrics at its threshold, Sec. IV-C.
CASE_STATISTICS = score_statistics()
