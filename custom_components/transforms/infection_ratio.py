import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import check_on_image
from custom_components.infection_size import check_ratio
from monai.config import KeysCollection
from monai.transforms import MapTransform


def infection_ratio(infection: np.ndarray | torch.Tensor, lung: np.ndarray | torch.Tensor, case: str = "") -> float:
    """Infection volume / lung volume (Ouyang et al. 2020, Sec. III-C), from voxel counts on the native grid.

    Args:
        infection: 0/1, any shape.
        lung: 0/1, same sizes, possibly in another axis order.
        case: name of the case, for the message.

    Returns:
        The ratio, 0 to 1.

    Raises:
        ValueError: when the sizes differ, the lung mask is empty, or the infection is larger than the lungs.

    Example:
        >>> lung = np.array([[[1, 1, 1, 1, 0]]])
        >>> infection_ratio(lung * [0, 0, 1, 0, 0], lung), infection_ratio(lung * 0, lung), infection_ratio(lung, lung)
        (0.25, 0.0, 1.0)
    """
    prefix = f"Case {case}: " if case else ""
    if sorted(infection.shape) != sorted(lung.shape):
        raise ValueError(
            f"{prefix}infection mask has shape {tuple(infection.shape)}, lung mask {tuple(lung.shape)}. "
            "Expected both on the grid of the scan: export them at its size."
        )
    lung_voxels = _count(lung)
    if not lung_voxels:
        raise ValueError(
            f"{prefix}lung mask is empty (0 of {math.prod(lung.shape):,} voxels). "
            "Check the mask file or segment the lungs again."
        )
    ratio = _count(infection) / lung_voxels
    check_ratio(ratio, case)
    return ratio


class InfectionRatiod(MapTransform):
    """Add the infection ratio to an item, computed from the masks before resampling.

    A finite ratio from the datalist is kept; without an infection mask the ratio is NaN.

    Args:
        lung_key: the lung mask, nonzero in the lungs.
        infection_key: the infection mask, 0/1; may be missing or None.
        ratio_key: key of the ratio, a float.

    Raises:
        ValueError: on call, naming the case, when the lung mask is missing or the masks give no ratio from 0 to 1.

    Example:
        >>> lung = torch.tensor([[[[1, 1, 1, 1, 0]]]])
        >>> ratio = InfectionRatiod()
        >>> ratio({"lung": lung, "infection": lung // 2})["ratio"], ratio({"lung": lung, "ratio": 0.02})["ratio"]
        (0.0, 0.02)
        >>> ratio({"lung": lung})["ratio"]
        nan
    """

    def __init__(self, lung_key: str = "lung", infection_key: str = "infection", ratio_key: str = "ratio") -> None:
        super().__init__((lung_key, infection_key))
        self.lung_key, self.infection_key, self.ratio_key = lung_key, infection_key, ratio_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the ratio; the masks are arrays or tensors of shape (1, X, Y, Z)."""
        item = dict(data)
        case = str(item.get("case_id") or case_id(item))
        known = item.get(self.ratio_key)
        item[self.ratio_key] = float("nan") if known is None else float(known)
        if math.isfinite(item[self.ratio_key]):
            check_ratio(item[self.ratio_key], case)
        elif item.get(self.infection_key) is not None:
            infection, lung = item[self.infection_key], item.get(self.lung_key)
            if lung is None:
                raise ValueError(
                    f"Case {case}: {self.lung_key} is missing, so the infection has no ratio. "
                    "Add it to the datalist, or segment the lungs first."
                )
            check_on_image(infection, lung, self.infection_key, case)
            item[self.ratio_key] = infection_ratio(infection, lung, case)
        return item


def _count(mask: np.ndarray | torch.Tensor) -> int:
    return int(torch.count_nonzero(torch.as_tensor(mask)))


class RatioChanneld(MapTransform):
    """Append the infection ratio to a scan as a constant channel, the second input of ``DualSamplingNet``.

    Deployment tools pass one tensor to a network, so the ratio must be part of it.

    Args:
        keys: scans, shape (1, D, H, W).
        ratio_key: infection volume / lung volume, a number; NaN when unknown.
        allow_missing_keys: whether a scan may be missing.

    Example:
        >>> item = RatioChanneld("image")({"image": torch.zeros(1, 2, 3, 4), "ratio": 0.25})
        >>> item["image"].shape, item["image"][1].unique().tolist()
        (torch.Size([2, 2, 3, 4]), [0.25])
    """

    def __init__(self, keys: KeysCollection, ratio_key: str = "ratio", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ratio_key = ratio_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy whose scans have shape (2, D, H, W) and keep their metadata."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = torch.cat([item[key], torch.full_like(item[key], float(item[self.ratio_key]))])
        return item
