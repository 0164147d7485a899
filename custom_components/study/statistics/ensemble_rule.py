"""Search of the weights and thresholds of the dual-sampling ensemble (Eq. 5).

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

# Candidate weights w of the uniform branch, outside and inside: 0 to 1 in steps of 0.01.
WEIGHTS = tuple(step / 100 for step in range(101))

# Candidate thresholds of the ratio. 0 and 1 together put all scans inside: one weight for all.
LOW_THRESHOLDS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.010)
HIGH_THRESHOLDS = (0.015, 0.020, 0.030, 0.050, 0.100, 1.0)


@dataclass(frozen=True)
class EnsembleRule:
    """Rule found by a search: P = w P_US + (1 - w) P_SS, where w depends on the infection ratio.

    Args:
        w_outside: w if the ratio is below ``low`` or above ``high``.
        w_inside: w otherwise (thresholds included).
        low: lower threshold of the ratio.
        high: upper threshold of the ratio.
        auc: AUC on the cases used for the search; optimistic.
        n: number of cases used for the search.
        n_left_out: cases excluded because their ratio or a probability is unknown.
    """

    w_outside: float
    w_inside: float
    low: float
    high: float
    auc: float
    n: int
    n_left_out: int = 0

    def apply(self, p_us: ArrayLike, p_ss: ArrayLike, ratios: ArrayLike) -> np.ndarray:
        """P_final of Eq. 5, by the rule of :class:`~custom_components.networks.dual_sampling.DualSamplingNet`.

        Args:
            p_us: probability of the branch with uniform sampling, shape (N,).
            p_ss: probability of the branch with size-balanced sampling, shape (N,).
            ratios: infection volume / lung volume, shape (N,); NaN if unknown.

        Returns:
            P_final, shape (N,); NaN if the ratio or a probability is unknown.

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

    Exhaustive search over all outside weights, inside weights and pairs of thresholds. The thresholds divide the
    ratios into cells; pairs of a COVID-19 and a CAP case are counted once per pair of weights and cells, and the count
    for a pair of thresholds is a sum over cells. Among rules with equal AUC, the one closest to the paper's is
    selected: by thresholds first (sum of both distances), then by weights, then the smallest values.

    Args:
        labels: 1 for COVID-19, 0 for CAP, shape (N,).
        p_us: probability of COVID-19 of the uniform branch, shape (N,); NaN if unknown.
        p_ss: probability of the size-balanced branch, likewise.
        ratios: infection volume / lung volume, shape (N,); NaN if unknown.
        weights: candidate weights w.
        low_thresholds: candidate lower thresholds, combined with every upper threshold that is not smaller.
        high_thresholds: candidate upper thresholds.

    Returns:
        The best rule.

    Raises:
        ValueError: if the cases with known ratio and probabilities have only one class, or shapes, labels,
            probabilities or candidates are not valid.

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
            f"The ensemble search needs both classes, got {covid.sum()} COVID-19 and {(~covid).sum()} CAP cases "
            "with a known ratio and both probabilities."
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
    """Labels, both probabilities and ratios of the complete cases."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(
            f"Labels, probabilities and ratios have shapes {shapes}. Expected one value of each per case: (N,)."
        )
    if np.isinf(arrays[3]).any():
        raise ValueError("A ratio is infinite. Expected infection volume / lung volume, or NaN if unknown.")
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
            f"Lower thresholds are {list(lows)}, upper ones {list(highs)}. Expected at least one pair "
            "with lower <= upper."
        )
    return pairs


def _weights(ratios: ArrayLike, weights: tuple[float, float], thresholds: tuple[float, float]) -> np.ndarray:
    """Weights by the network's rule and precision, so that a ratio on a threshold is treated the same."""
    single = torch.as_tensor(np.asarray(ratios, dtype=np.float32))
    inside = branch_weight(single, (0.0, 1.0), thresholds).double().numpy()
    return np.where(np.isnan(inside), np.nan, np.where(inside > 0, weights[1], weights[0]))


def _cells(ratios: np.ndarray, thresholds: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each case, (N,), and whether each cell is inside each pair of thresholds, (pairs, cells).

    Cases share a cell if no pair of thresholds separates them.
    """
    inside = np.stack([_weights(ratios, (0.0, 1.0), pair) > 0 for pair in thresholds])
    patterns, cell = np.unique(inside, axis=1, return_inverse=True)
    return cell.reshape(-1), patterns


def _doubled_wins(
    covid: np.ndarray, grid: np.ndarray, p_us: np.ndarray, p_ss: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Twice the number of pairs won by COVID-19 cases of one cell against CAP cases of another; a tie counts one.

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
    """Thresholds and weight indices of the selected rule among those with the most wins."""
    best = max(total.max() for total in totals)
    won = [(pair, total) for pair, total in zip(thresholds, totals, strict=True) if total.max() == best]
    pair, total = min(won, key=lambda one: _distance(one[0], PAPER_THRESHOLDS))
    i, j = min(np.argwhere(total == best), key=lambda place: _distance(grid[place].tolist(), PAPER_WEIGHTS))
    return pair, (int(i), int(j))


def _distance(pair: Sequence[float], papers: tuple[float, float]) -> tuple[float, ...]:
    """Distance of a pair from the paper's pair, then the pair itself to break ties."""
    return (round(sum(abs(own - paper) for own, paper in zip(pair, papers, strict=True)), 9), *pair)
