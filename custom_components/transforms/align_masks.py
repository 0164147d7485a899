from collections.abc import Hashable, Mapping
from typing import Any

import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from monai.config import KeysCollection
from monai.transforms import MapTransform

# Values of the right lung, of a mask as tools for pictures write it.
RIGHT, FULL = 2, 255


class AlignMasksd(MapTransform):
    """Bring masks, right after loading, into the order in which their image is stored; nothing is interpolated.

    A mask may be stored flipped or with its axes in another order: the affines tell. What follows may then compare
    image and masks voxel by voxel. A mask of another sampling is refused. A lung mask that tells the sides apart, 1 and
    2 as ``diagnose`` writes it, and a lung or infection mask of 0 and 255 become masks of 0 and 1; other values stay,
    for ``CheckScand`` to refuse. A label keeps all its values.

    Args:
        keys: masks; those that are None count as missing.
        image_key: the image that they lie on.
        lung_key: which of them is the lung mask.
        infection_key: which of them is the infection mask.
        allow_missing_keys: whether a mask may be missing.

    Raises:
        ValueError: on call, naming the case, when a mask does not lie on the image.

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
        """Align the masks of one case.

        Args:
            data: image and masks, MetaTensors (1, X, Y, Z).

        Returns:
            A shallow copy; the masks have shape and affine of the image.
        """
        item = dict(data)
        case = str(item.get("case_id") or case_id(item))
        for key in self.key_iterator({key: value for key, value in item.items() if value is not None}):
            item[key] = mask_on_image(item[key], item[self.image_key], str(key), case)
            if key in (self.lung_key, self.infection_key):
                item[key] = binary_mask(item[key], key == self.lung_key)
        return item


def binary_mask(mask: Any, is_lung: bool = False) -> Any:
    """A mask of 0 and 1 from one of 0 and 255, of lungs also from 0, 1 (left) and 2 (right).

    Args:
        mask: tensor of any shape.
        is_lung: whether it is a lung mask.

    Returns:
        The mask; as it is when it has any other value.

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
