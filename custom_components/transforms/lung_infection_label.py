"""Merge lungs and infection into one label map, and split it into two masks."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from custom_components.labels import INFECTION, LUNG
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform


class LungInfectionLabeld(Transform):
    """Merge lung and infection mask into ``label``: 0 background, 1 lung, 2 infection.

    Infection outside the lung mask counts as infection, because some lung masks exclude dense lesions.

    Args:
        lung_key: lung mask, not 0 in the lungs; removed.
        infection_key: infection mask, 0/1, in any orientation; removed.
        label_key: the label map, uint8 on the lung mask's grid.

    Raises:
        ValueError: on call, naming the case, when the masks are not aligned.

    Example:
        >>> lung, infection = torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 0, 1, 1]])
        >>> LungInfectionLabeld()({"lung": lung, "infection": infection})["label"].tolist()
        [[0, 1, 2, 2]]
    """

    def __init__(self, lung_key: str = "lung", infection_key: str = "infection", label_key: str = "label") -> None:
        self.lung_key, self.infection_key, self.label_key = lung_key, infection_key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the label map instead of the masks."""
        item = dict(data)
        lung, case = item.pop(self.lung_key), str(item.get("case_id") or case_id(item))
        infection = mask_on_image(item.pop(self.infection_key), lung, self.infection_key, case)
        if lung.shape != infection.shape:
            raise ValueError(
                f"Case {case}: the lung mask is {tuple(lung.shape)} and the infection mask "
                f"{tuple(infection.shape)}. Expected both on one grid."
            )
        infected = infection > 0
        item[self.label_key] = torch.where(infected, INFECTION, (lung > 0) * LUNG).to(torch.uint8)
        return item


class LungInfectionMasksd(MapTransform):
    """Split label maps (0 background, 1 lung, 2 infection) into two masks: lungs including infection, and infection.

    Args:
        keys: label maps, shape (1, *size).
        allow_missing_keys: whether a label map may be missing.

    Example:
        >>> LungInfectionMasksd("label")({"label": torch.tensor([[0, 1, 2]])})["label"].tolist()
        [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with float32 masks (2, *size) instead of the label maps."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = torch.cat([item[key] >= LUNG, item[key] >= INFECTION]).float()
        return item
