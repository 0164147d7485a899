"""Search of the weights and thresholds of the dual-sampling ensemble, Eq. 5.

X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), Sec. III-E.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from custom_components.networks.dual_sampling import PAPER_THRESHOLDS, PAPER_WEIGHTS, branch_weight
from custom_components.study.statistics.labelled_scores import labelled_probabilities
from numpy.typing import ArrayLike

# Weights w of the uniform branch that are tried, both outside and inside: 0 to 1 in steps of 0.01.
WEIGHTS = tuple(step / 100 for step in range(101))

# Ratios that are tried as ends of the inside. With 0 no scan is below, with 1 none above: one weight for all is tried.
LOW_THRESHOLDS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.010)
HIGH_THRESHOLDS = (0.015, 0.020, 0.030, 0.050, 0.100, 1.0)


@dataclass(frozen=True)
class EnsembleRule:
    """The rule that a search found: P = w P_US + (1 - w) P_SS, with w by the ratio of infection to lung.

    Args:
        w_outside: w where the ratio is below ``low`` or above ``high``.
        w_inside: w elsewhere, both ends included.
        low: lower threshold of the ratio.
        high: upper one.
        auc: of the rule on the cases that it was searched on, so that it is optimistic.
        n: how many these are.
        n_left_out: cases that the search left out, because their ratio or a probability is unknown.
    """

    w_outside: float
    w_inside: float
    low: float
    high: float
    auc: float
    n: int
    n_left_out: int = 0

    def apply(self, p_us: ArrayLike, p_ss: ArrayLike, ratios: ArrayLike) -> np.ndarray:
        """P_final of Eq. 5, with the rule of :class:`~custom_components.networks.dual_sampling.DualSamplingNet`.

        Args:
            p_us: probability of the branch with uniform sampling, shape (N,).
            p_ss: probability of the branch with size-balanced sampling, shape (N,).
            ratios: infection volume / lung volume, shape (N,); NaN where unknown.

        Returns:
            Shape (N,); NaN where the ratio or a probability is unknown.

        Example:
            >>> rule = EnsembleRule(w_outside=0.35, w_inside=0.96, low=0.001, high=0.030, auc=0.988, n=2186)
            >>> rule.apply([1, 1, 1], [0, 0, 0], [0.0009, 0.001, 0.031]).round(2).tolist()
            [0.35, 0.96, 0.35]
        """
        uniform, balanced = np.asarray(p_us, dtype=np.float64), np.asarray(p_ss, dtype=np.float64)
        weight = _weights(ratios, (self.w_outside, self.w_inside), (self.low, self.high))
        return weight * uniform + (1 - weight) * balanced


def search_ensemble(
    labels: ArrayLike,
    p_us: ArrayLike,
    p_ss: ArrayLike,
    ratios: ArrayLike,
    weights: Sequence[float] = WEIGHTS,
    low_thresholds: Sequence[float] = LOW_THRESHOLDS,
    high_thresholds: Sequence[float] = HIGH_THRESHOLDS,
) -> EnsembleRule:
    """Find the weights and thresholds of Eq. 5 with the highest AUC.

    Exact: every weight outside with every weight inside with every pair of thresholds. Pairs of one COVID-19 and one
    CAP case are counted once for each pair of weights, by the cells that the thresholds cut the ratios into; the
    counts of a pair of thresholds are sums over cells. Where several rules have the same AUC, the one closest to the
    paper's is taken: in its thresholds first (sum of both distances), then in its weights, then the smallest.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        p_us: probability of COVID-19 of the uniform branch, shape (N,); NaN where unknown.
        p_ss: that of the size-balanced branch, likewise.
        ratios: infection volume / lung volume, shape (N,); NaN where unknown.
        weights: w that are tried.
        low_thresholds: lower thresholds that are tried, each with every upper one that is not below it.
        high_thresholds: upper thresholds that are tried.

    Returns:
        The best rule.

    Raises:
        ValueError: when the cases with known ratio and probabilities are of one class, with the counts; when shapes,
            labels, probabilities or the grid are not valid.

    Example:
        >>> ratios = np.array([0.0005, 0.0007, 0.01, 0.02])
        >>> rule = search_ensemble([1, 0, 1, 0], [0.2, 0.8, 0.9, 0.1], [0.8, 0.3, 0.4, 0.5], ratios)
        >>> rule.auc, rule.low, rule.high
        (1.0, 0.001, 0.03)
    """
    case_labels, uniform, balanced, known_ratios = _known(labels, p_us, p_ss, ratios)
    covid, *branches = labelled_probabilities(case_labels, uniform, balanced)
    if not covid.any() or covid.all():
        raise ValueError(
            f"A search of the ensemble needs both classes, got {covid.sum()} COVID-19 and {(~covid).sum()} CAP cases "
            "with known ratio and both probabilities."
        )
    grid, thresholds = _checked_grid(weights), _checked_thresholds(low_thresholds, high_thresholds)
    cell, inside = _cells(known_ratios, thresholds)
    wins = _doubled_wins(covid, grid, branches[0], branches[1], cell)
    totals = [_total(wins, row) for row in inside]
    pair, (i, j) = _preferred(totals, grid, thresholds)
    auc = float(max(total.max() for total in totals) / (2 * covid.sum() * (~covid).sum()))
    left_out = len(np.asarray(labels)) - len(covid)
    return EnsembleRule(float(grid[i]), float(grid[j]), *pair, auc, len(covid), left_out)


def _known(*columns: ArrayLike) -> list[np.ndarray]:
    """Labels, both probabilities and ratios of the cases that have all of them."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"Labels, probabilities and ratios have shapes {shapes}. Expected one of each per case: (N,).")
    if np.isinf(arrays[3]).any():
        raise ValueError("A ratio is infinite. Expected infection volume / lung volume, or NaN where it is unknown.")
    known = ~np.isnan(arrays[1:]).any(axis=0)
    return [array[known] for array in arrays]


def _checked_grid(weights: Sequence[float]) -> np.ndarray:
    grid = np.unique(np.asarray(weights, dtype=np.float64))
    if not len(grid) or grid[0] < 0 or grid[-1] > 1:
        raise ValueError(f"Weights are {list(weights)}. Expected at least one, in [0, 1].")
    return grid


def _checked_thresholds(lows: Sequence[float], highs: Sequence[float]) -> list[tuple[float, float]]:
    pairs = [(float(low), float(high)) for low, high in product(lows, highs) if low <= high]
    if not pairs:
        raise ValueError(
            f"Lower thresholds are {list(lows)}, upper ones {list(highs)}. Expected a lower one that is at most some "
            "upper one."
        )
    return pairs


def _weights(ratios: ArrayLike, weights: tuple[float, float], thresholds: tuple[float, float]) -> np.ndarray:
    """The network's own rule, on ratios in its own precision, so that a ratio on a border falls to the same side."""
    single = torch.as_tensor(np.asarray(ratios, dtype=np.float32))
    inside = branch_weight(single, (0.0, 1.0), thresholds).double().numpy()
    return np.where(np.isnan(inside), np.nan, np.where(inside > 0, weights[1], weights[0]))


def _cells(ratios: np.ndarray, thresholds: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each case, (N,), and whether a pair of thresholds has a cell inside, (pairs, cells).

    Cases are in one cell when no pair of thresholds parts them.
    """
    inside = np.stack([_weights(ratios, (0.0, 1.0), pair) > 0 for pair in thresholds])
    patterns, cell = np.unique(inside, axis=1, return_inverse=True)
    return cell.reshape(-1), patterns


def _doubled_wins(
    covid: np.ndarray, grid: np.ndarray, p_us: np.ndarray, p_ss: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Twice the pairs that a COVID-19 case of one cell wins against a CAP case of another, ties counting one.

    Returns:
        ``wins[a, b, i, j]``: COVID-19 of cell a at weight i against CAP of cell b at weight j; integers.
    """
    num_cells, num_weights = int(cell.max()) + 1, len(grid)
    scores = grid[:, None] * p_us + (1 - grid[:, None]) * p_ss
    values, ranks = np.unique(scores, return_inverse=True)
    ranks = ranks.reshape(scores.shape)
    order = np.argsort(cell[covid], kind="stable")
    ranks_covid = ranks[:, covid][:, order]
    cells_there, starts = np.unique(cell[covid][order], return_index=True)
    wins = np.zeros((num_cells, num_cells, num_weights, num_weights), dtype=np.int64)
    for b in np.unique(cell[~covid]):
        for j, own in enumerate(ranks[:, ~covid & (cell == b)]):
            counts = np.bincount(own, minlength=len(values))
            outranked = 2 * np.cumsum(counts) - counts
            wins[cells_there, b, :, j] = np.add.reduceat(outranked[ranks_covid], starts, axis=1).T
    return wins


def _total(wins: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Doubled wins of all cases by weight outside and weight inside, shape (W, W)."""
    same_weight = np.einsum("abii->abi", wins)
    of_outside, of_inside = (same_weight[np.ix_(side, side)].sum(axis=(0, 1)) for side in (~inside, inside))
    outside_wins = wins[np.ix_(~inside, inside)].sum(axis=(0, 1))
    inside_wins = wins[np.ix_(inside, ~inside)].sum(axis=(0, 1))
    total: np.ndarray = of_outside[:, None] + of_inside + outside_wins + inside_wins.T
    return total


def _preferred(
    totals: Sequence[np.ndarray], grid: np.ndarray, thresholds: Sequence[tuple[float, float]]
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Thresholds, and places of both weights, of the rule that is taken among those with most wins."""
    best = max(total.max() for total in totals)
    won = [(pair, total) for pair, total in zip(thresholds, totals, strict=True) if total.max() == best]
    pair, total = min(won, key=lambda one: _distance(one[0], PAPER_THRESHOLDS))
    i, j = min(np.argwhere(total == best), key=lambda place: _distance(grid[place].tolist(), PAPER_WEIGHTS))
    return pair, (int(i), int(j))


def _distance(pair: Sequence[float], papers: tuple[float, float]) -> tuple[float, ...]:
    """Distance of a pair from the paper's; the pair itself, so that one is always first."""
    return (round(sum(abs(own - paper) for own, paper in zip(pair, papers, strict=True)), 9), *pair)
