from collections.abc import Hashable, Mapping
from typing import Any

import torch
from custom_components.data.case_id import case_id
from custom_components.data.mask_geometry import mask_on_image
from monai.config import KeysCollection
from monai.transforms import MapTransform


class AlignMasksd(MapTransform):
    """Bring masks, right after loading, into the order in which their image is stored; nothing is interpolated.

    A mask may be stored flipped or with its axes in another order: the affines tell. What follows may then compare
    image and masks voxel by voxel. A mask of another sampling is refused. A lung mask that tells the sides apart, 1 and
    2 as ``diagnose`` writes it, becomes one of 0 and 1; its other values stay, for ``CheckScand`` to refuse.

    Args:
        keys: masks; those that are None count as missing.
        image_key: the image that they lie on.
        lung_key: which of them is the lung mask.
        allow_missing_keys: whether a mask may be missing.

    Raises:
        ValueError: on call, naming the case, when a mask does not lie on the image.

    Example:
        >>> sides = {"image": torch.zeros(1, 3, 1, 1), "lung": torch.tensor([0, 1, 2]).reshape(1, 3, 1, 1)}
        >>> AlignMasksd("lung")(sides)["lung"].flatten().tolist()
        [0, 1, 1]
    """

    def __init__(
        self, keys: KeysCollection, image_key: str = "image", lung_key: str = "lung", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.lung_key = image_key, lung_key

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
            if key == self.lung_key:
                item[key] = both_lungs(item[key])
        return item


def both_lungs(lung: Any) -> Any:
    """A lung mask of 0 and 1 from one of 0, 1 (left) and 2 (right); a mask with another value stays as it is.

    Example:
        >>> both_lungs(torch.tensor([0, 1, 2])).tolist(), both_lungs(torch.tensor([0, 2, 3])).tolist()
        ([0, 1, 1], [0, 2, 3])
    """
    right = lung == 2
    if not bool(right.any()) or bool(((lung != 0) & (lung != 1) & ~right).any()):
        return lung
    return torch.where(right, torch.ones_like(lung), lung)
