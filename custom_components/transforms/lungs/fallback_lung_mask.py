from collections.abc import Hashable, Mapping
from copy import deepcopy
from typing import Any

import nibabel
import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.transforms.lungs.lung_mask import lung_mask
from monai.data import MetaTensor
from monai.transforms import Transform

# Sources of a lung mask, and their key in a case and in the mask's metadata.
FALLBACK_SOURCE, FILE_SOURCE = "threshold and morphology (no model)", "mask file"
SOURCE_KEY = "lung_source"


class FallbackLungMaskd(Transform):
    """Add a lung mask computed by :func:`lung_mask` to a case without one, and record its source.

    An existing mask is kept. ``meta["lung_source"]`` of the mask and ``data["lung_source"]`` name the source:
    ``mask file`` or ``threshold and morphology (no model)``.

    Args:
        image_key: the CT in HU, a MetaTensor of shape (1, X, Y, Z) in any orientation.
        lung_key: the mask; missing if the key is missing or its value is None.

    Raises:
        ValueError: on call, naming the case, when the CT is not such a volume or has no plausible lungs.

    Example:
        >>> given = {"image": torch.zeros(1, 2, 3, 4), "lung": torch.ones(1, 2, 3, 4)}
        >>> FallbackLungMaskd()(given)["lung_source"]
        'mask file'
    """

    def __init__(self, image_key: str = "image", lung_key: str = "lung") -> None:
        self.image_key = image_key
        self.lung_key = lung_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the mask, uint8 MetaTensor of shape (1, X, Y, Z) on the image's grid."""
        result = dict(data)
        lung = data.get(self.lung_key)
        result[SOURCE_KEY] = FALLBACK_SOURCE if lung is None else FILE_SOURCE
        if lung is None:
            case = str(data.get("case_id") or case_id(data.get(self.image_key)))
            result[self.lung_key] = _mask_of(data[self.image_key], case)
        elif isinstance(lung, torch.Tensor):
            known = lung.meta if isinstance(lung, MetaTensor) else {}
            result[self.lung_key] = MetaTensor(lung, meta={**known, SOURCE_KEY: FILE_SOURCE})
        return result


def _mask_of(image: Any, case: str) -> MetaTensor:
    """The mask of a CT in its own orientation; computed in Left, Posterior, Superior."""
    if not isinstance(image, MetaTensor) or image.ndim != 4 or image.shape[0] != 1:
        found = f"{type(image).__name__} of shape {tuple(getattr(image, 'shape', ()))}"
        raise ValueError(
            f"Case {case}: the image is a {found}. Expected a MetaTensor (1, X, Y, Z) with an affine "
            "(orientation): load it with LoadImaged and EnsureChannelFirstd, or give a lung mask."
        )
    affine = image.affine.cpu().numpy()
    stored, wanted = nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(("L", "P", "S"))
    there = nibabel.orientations.ornt_transform(stored, wanted)
    back = nibabel.orientations.ornt_transform(wanted, stored)
    spacing = nibabel.affines.voxel_sizes(affine)[np.argsort(there[:, 0])]
    volume = nibabel.apply_orientation(image[0].cpu().numpy(), there)
    mask = nibabel.apply_orientation(lung_mask(volume, spacing.tolist(), case), back)
    meta = {**deepcopy(dict(image.meta)), SOURCE_KEY: FALLBACK_SOURCE}
    history = deepcopy(image.applied_operations)
    voxels = torch.from_numpy(np.ascontiguousarray(mask))[None]
    return MetaTensor(voxels, meta=meta, applied_operations=history)
