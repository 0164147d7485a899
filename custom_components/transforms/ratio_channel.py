from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform


class RatioChanneld(MapTransform):
    """Append the infection ratio to a scan as a channel of one constant: the second input of ``DualSamplingNet``.

    The deployment tools feed a network one tensor; so the ratio travels in it.

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
        """Append it.

        Args:
            data: scans and ratio of one case.

        Returns:
            A copy; the scans have shape (2, D, H, W) and keep their metadata.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = torch.cat([item[key], torch.full_like(item[key], float(item[self.ratio_key]))])
        return item
