"""Remove lesion regions of a few pixels, which are usually errors of the network."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from scipy import ndimage

SMALLEST = 0.0004  # of a slice's area: 105 pixels of 512 x 512


def without_small_lesions(lesions: np.ndarray, smallest: int) -> np.ndarray:
    """Remove small connected regions of each lesion class.

    Pixels that touch, even at a corner, belong to one region; in a volume also across slices.

    Args:
        lesions: 0 background, any other value a class; (X, Y) or (X, Y, Z).
        smallest: size of the smallest region that is kept, in pixels or voxels.

    Returns:
        The remaining labels, same data type.

    Example:
        >>> without_small_lesions(np.array([[1, 1, 0, 1], [2, 0, 0, 0]]), 2).tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0]]
    """
    kept = lesions.copy()
    for label in np.setdiff1d(lesions, 0):
        parts, _ = ndimage.label(lesions == label, np.ones((3,) * lesions.ndim))
        small = np.bincount(parts.ravel()) < smallest
        small[0] = False  # voxels of other classes
        kept[small[parts]] = 0
    return kept


def smallest_part(shape: Sequence[int], share: float = SMALLEST) -> int:
    """Pixels of the smallest region that is kept, for a share of the slice area (the map's two longest axes).

    Example:
        >>> smallest_part((512, 512, 1)), smallest_part((512, 512, 130)), smallest_part((96, 96), 0)
        (105, 105, 0)
    """
    return int(np.ceil(share * np.prod(sorted(shape)[-2:])))


class RemoveSmallLesionsd(MapTransform):
    """Remove small regions of each lesion class with :func:`without_small_lesions`.

    The size is a share of the slice area, so that the result does not depend on the resolution. Chen et al. 2020 have
    no such step. MONAI's ``RemoveSmallObjects`` would need scikit-image and one channel per class.

    Args:
        keys: label maps (1, X, Y, Z).
        smallest: smallest region that is kept, as a share of the slice area, from 0 (all are kept) to 1; see
            :func:`smallest_part`.
        allow_missing_keys: whether a label map may be missing.

    Raises:
        ValueError: when ``smallest`` is not a number from 0 to 1.

    Example:
        >>> import torch
        >>> lesions = torch.zeros(1, 10, 10, 1)
        >>> lesions[0, 1, 1], lesions[0, 4:8, 4:8] = 1, 1
        >>> int(RemoveSmallLesionsd("pred", smallest=0.05)({"pred": lesions})["pred"].sum())
        16
    """

    def __init__(self, keys: KeysCollection, smallest: float = SMALLEST, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if isinstance(smallest, bool) or not isinstance(smallest, int | float) or not 0 <= smallest <= 1:
            raise ValueError(
                f"smallest_lesion is {smallest!r}. Expected a share of a slice's area, from 0 (all lesions are kept) "
                f"to 1, such as {SMALLEST}."
            )
        self.smallest = smallest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the filtered label maps."""
        item: dict[Any, Any] = dict(data)
        for key in self.key_iterator(item) if self.smallest else ():
            labels = item[key][0].cpu().numpy()
            large = without_small_lesions(labels, smallest_part(labels.shape, self.smallest))
            item[key] = convert_to_dst_type(large[None], item[key])[0]
        return item
