from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from custom_components.images.case_id import case_id
from custom_components.metrics.case_numbers import known_ratio
from custom_components.networks.dual_sampling import PAPER_THRESHOLDS, PAPER_WEIGHTS, weight_of_ratio
from monai.transforms import Transform

# Lower limits of the levels 1, 2, 3, 4. The second is the threshold beta = 0.4 of the paper's soft mask T(A).
LEVELS_FROM = (0.2, 0.4, 0.6, 0.8)

# Levels are stored in one byte.
MOST_LEVELS = 255


def attention_levels(attention: torch.Tensor, levels_from: Sequence[float] = LEVELS_FROM) -> torch.Tensor:
    """Quantise attention: the level of a voxel is the number of lower limits that it reaches.

    Args:
        attention: A in [0, 1], any shape.
        levels_from: lower limits of level 1, 2, ..., increasing, in (0, 1].

    Returns:
        Whole numbers from 0 (below all) to ``len(levels_from)``, float32, same shape; metadata are kept.

    Example:
        >>> attention_levels(torch.tensor([0.0, 0.19, 0.2, 0.5, 0.8, 1.0])).tolist()
        [0.0, 0.0, 1.0, 2.0, 4.0, 4.0]
    """
    levels = torch.zeros_like(attention, dtype=torch.float32)
    for lower_end in levels_from:
        levels += attention >= lower_end
    return levels


class AttentionLevelsd(Transform):
    """Combine both branches' attention into one label volume, for tools that cannot show heat maps.

    The maps are weighted as Eq. 5 of Ouyang et al. 2020 weights the probabilities: w A_US + (1 - w) A_SS, where w
    depends on the infection ratio. If the ratio is unknown, the mean of both maps is used. The result is divided into
    levels: 0 is background, 1, 2, ... are increasing attention.

    Args:
        us_key: attention of the uniform-sampling branch, (1, X, Y, Z) in [0, 1], on the grid of the CT.
        ss_key: attention of the size-balanced branch, same shape.
        pred_key: key of the levels: (1, X, Y, Z), whole numbers as float32, a MetaTensor if the maps are.
        ratio_key: infection volume / lung volume; missing, None or NaN when unknown.
        levels_from: lower limits of level 1, 2, ..., increasing, in (0, 1].
        weights: w outside and inside the ratio thresholds, as in the network.
        ratio_thresholds: thresholds of the ratio, as in the network.

    Raises:
        ValueError: at once when ``levels_from`` is not valid; on call, naming the case, when a map is missing, the
            shapes differ, or values are outside 0 to 1.

    Example:
        >>> us, ss = torch.tensor([[[[1.0, 1.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0]]]])
        >>> maps = {"attention_us": us, "attention_ss": ss}
        >>> AttentionLevelsd()({**maps, "ratio": 0.02})["pred"].tolist()  # w = .96
        [[[[4.0, 4.0, 0.0]]]]
        >>> AttentionLevelsd()({**maps, "ratio": float("nan")})["pred"].tolist()  # the mean
        [[[[4.0, 2.0, 0.0]]]]
    """

    def __init__(
        self,
        us_key: str = "attention_us",
        ss_key: str = "attention_ss",
        pred_key: str = "pred",
        ratio_key: str = "ratio",
        levels_from: Sequence[float] = LEVELS_FROM,
        weights: tuple[float, float] = PAPER_WEIGHTS,
        ratio_thresholds: tuple[float, float] = PAPER_THRESHOLDS,
    ) -> None:
        _check_levels(levels_from)
        self.us_key, self.ss_key = us_key, ss_key
        self.pred_key, self.ratio_key = pred_key, ratio_key
        self.levels_from = tuple(float(lower_end) for lower_end in levels_from)
        self.weights, self.ratio_thresholds = weights, ratio_thresholds

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy of the case with the levels."""
        item = dict(data)
        case = str(item.get("case_id") or case_id(item.get(self.us_key)))
        us, ss = (_attention(item, key, case) for key in (self.us_key, self.ss_key))
        if us.shape != ss.shape:
            raise ValueError(
                f"Case {case}: {self.us_key} has shape {tuple(us.shape)}, {self.ss_key} {tuple(ss.shape)}. Expected "
                "both on the grid of the CT: apply Invertd to both."
            )
        weight = self._weight(known_ratio({"ratio": item.get(self.ratio_key)}, case))
        item[self.pred_key] = attention_levels(weight * us + (1 - weight) * ss, self.levels_from)
        return item

    def _weight(self, ratio: float | None) -> float:
        return 0.5 if ratio is None else weight_of_ratio(ratio, self.weights, self.ratio_thresholds)


def _attention(item: Mapping[Hashable, Any], key: str, case: str) -> torch.Tensor:
    attention = item.get(key)
    if not isinstance(attention, torch.Tensor):
        raise ValueError(f"Case {case} has no {key!r}. Expected the branch's attention map as a tensor.")
    low, high = torch.aminmax(attention.detach())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(
            f"Case {case}: {key!r} ranges from {low.item():g} to {high.item():g}. Expected attention from 0 to 1: take "
            "the network's `explain`, and check the weights that were loaded."
        )
    return attention


def _check_levels(levels_from: Sequence[float]) -> None:
    ends = [0.0, *levels_from]
    rising = all(lower < upper for lower, upper in pairwise(ends))
    if not (1 <= len(levels_from) <= MOST_LEVELS and rising and ends[-1] <= 1):
        raise ValueError(
            f"levels_from is {list(levels_from)}. Expected 1 to {MOST_LEVELS} increasing numbers in (0, 1]: the lowest "
            "attention of each level."
        )
