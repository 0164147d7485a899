from collections.abc import Hashable, Mapping
from typing import Any

import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from monai.config import KeysCollection
from monai.transforms import MapTransform

# Value of the right lung in a mask by side, and of the foreground in a mask written by image tools.
RIGHT, FULL = 2, 255


class AlignMasksd(MapTransform):
    """Reorient masks to the storage order of their image, right after loading; nothing is interpolated.

    A mask may be stored flipped or with its axes in another order, according to the affines. After this transform,
    image and masks can be compared voxel by voxel. A mask of another sampling is an error. A lung mask of 1 (left) and
    2 (right), as ``diagnose`` writes it, and a lung or infection mask of 0 and 255 become masks of 0 and 1; other
    values are kept, and ``CheckScand`` rejects them. A label keeps all its values.

    Args:
        keys: masks; a mask that is None counts as missing.
        image_key: their image.
        lung_key: key of the lung mask.
        infection_key: key of the infection mask.
        allow_missing_keys: whether a mask may be missing.

    Raises:
        ValueError: on call, naming the case, when a mask is not aligned with the image.

    Example:
        >>> sides = {"image": torch.zeros(1, 3, 1, 1), "lung": torch.tensor([0, 1, 2]).reshape(1, 3, 1, 1)}
        >>> AlignMasksd("lung")(sides)["lung"].flatten().tolist()
        [0, 1, 1]
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        lung_key: str = "lung",
        infection_key: str = "infection",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.lung_key, self.infection_key = image_key, lung_key, infection_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy of a case, MetaTensors (1, X, Y, Z); masks have shape and affine of the image."""
        item = dict(data)
        case = str(item.get("case_id") or case_id(item))
        for key in self.key_iterator({key: value for key, value in item.items() if value is not None}):
            item[key] = mask_on_image(item[key], item[self.image_key], str(key), case)
            if key in (self.lung_key, self.infection_key):
                item[key] = binary_mask(item[key], key == self.lung_key)
        return item


def binary_mask(mask: Any, is_lung: bool = False) -> Any:
    """Convert a mask of 0 and 255, or a lung mask of 0, 1 (left) and 2 (right), to a mask of 0 and 1.

    Args:
        mask: tensor of any shape.
        is_lung: whether it is a lung mask.

    Returns:
        The mask; unchanged if it has any other value.

    Example:
        >>> lung, mixed = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 255])
        >>> binary_mask(lung, is_lung=True).tolist(), binary_mask(torch.tensor([0, 255])).tolist()
        ([0, 1, 1], [0, 1])
        >>> binary_mask(lung).tolist(), binary_mask(mixed).tolist()
        ([0, 1, 2], [0, 1, 255])
    """
    codes = {FULL: (FULL,), **({RIGHT: (1, RIGHT)} if is_lung else {})}.get(mask.max().item() if mask.numel() else 0)
    if codes is None:
        return mask
    inside = torch.isin(mask, torch.tensor(codes, dtype=mask.dtype, device=mask.device))
    return inside.to(mask.dtype) if bool((inside | (mask == 0)).all()) else mask
