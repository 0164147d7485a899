"""Checked labels and scores for the statistics of a study."""

import numpy as np
from custom_components.infection_size import CAP, COVID
from numpy.typing import ArrayLike


def labelled_scores(labels: ArrayLike, *scores: ArrayLike) -> tuple[np.ndarray, ...]:
    """Check labels and scores and convert them to bool and float64.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        scores: one or more arrays of scores, higher for COVID-19, shape (N,).

    Returns:
        Whether each case is COVID-19, and the scores; shape (N,) each.

    Raises:
        ValueError: if shapes differ, a label is neither 1 nor 0, or a score is missing (NaN).

    Example:
        >>> [array.tolist() for array in labelled_scores([1, 0], [0.7, 0.2])]
        [[True, False], [0.7, 0.2]]
    """
    actual, arrays = np.asarray(labels), [np.asarray(values, dtype=np.float64) for values in scores]
    if actual.ndim != 1 or any(array.shape != actual.shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in (actual, *arrays))
        raise ValueError(f"Labels and scores have shapes {shapes}. Expected one label and one score per case: (N,).")
    wrong = actual[~np.isin(actual, (COVID, CAP))]
    if len(wrong):
        raise ValueError(f"label is {wrong[0]}. Expected 1 (COVID-19) or 0 (CAP).")
    for array in arrays:
        if np.isnan(array).any():
            raise ValueError(f"{np.isnan(array).sum()} of {len(array)} scores are missing (NaN). Remove those cases.")
    return actual == COVID, *arrays


def labelled_probabilities(labels: ArrayLike, *probabilities: ArrayLike) -> tuple[np.ndarray, ...]:
    """:func:`labelled_scores` for probabilities of COVID-19.

    Raises:
        ValueError: as for :func:`labelled_scores`, and if a probability is not in [0, 1].

    Example:
        >>> labelled_probabilities([1, 0], [70, 20])
        Traceback (most recent call last):
            ...
        ValueError: A probability is 70. Expected probabilities of COVID-19 in [0, 1]: apply the sigmoid to logits.
    """
    covid, *arrays = labelled_scores(labels, *probabilities)
    for array in arrays:
        outside = array[(array < 0) | (array > 1)]
        if len(outside):
            raise ValueError(
                f"A probability is {outside[0]:g}. Expected probabilities of COVID-19 in [0, 1]: apply the sigmoid to "
                "logits."
            )
    return covid, *arrays


def check_level(level: float) -> None:
    """Check a confidence level.

    Raises:
        ValueError: when it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level:g}. Expected a confidence level between 0 and 1, such as 0.95.")
