"""Infection masks that are published without lungs: checked against lungs found by thresholds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from custom_components.datasets.placing import HALF
from custom_components.images.ct_reader import CTReader, LabelReader
from custom_components.images.geometry import mask_on_image
from custom_components.transforms.lungs.lung_mask import lung_mask
from monai.data import MetaTensor
from monai.transforms import LoadImage
from nibabel.affines import voxel_sizes

# A mask of which less lies in the lungs is not one of their infection, or lies elsewhere.
LEAST_INSIDE = 0.5


def load_ct(path: Path) -> MetaTensor:
    """CT in HU, (1, X, Y, Z)."""
    return LoadImage(reader=CTReader(), ensure_channel_first=True)(path)


def with_infection(image: MetaTensor, masks: Sequence[Path], case: str) -> dict[str, np.ndarray]:
    """Arrays of a case for ``write_case``: the image, and the infection if there is a mask.

    Args:
        image: CT in HU, (1, X, Y, Z).
        masks: file of the mask, or none.
        case: for messages.
    """
    arrays = {"image": image[0].numpy()}
    for mask in masks[:1]:
        arrays["infection"] = read_infection(image, mask, case)
    return arrays


def read_infection(image: MetaTensor, path: Path, case: str) -> np.ndarray:
    """An infection mask in the orientation of its CT, by its header.

    The header decides: both lungs look alike, so that a mirrored mask lies in the lungs too. It is only checked that
    most of the mask lies in the lungs, found by :func:`lung_mask`.

    Args:
        image: CT in HU, (1, X, Y, Z).
        path: NIfTI file of the mask; every value above 0.5 is infection.
        case: for messages.

    Returns:
        bool, (X, Y, Z).

    Raises:
        ValueError: names the case when the mask does not fit the CT, or lies outside the lungs.
    """
    stored = LoadImage(reader=LabelReader(), ensure_channel_first=True)(path)
    infection = mask_on_image(stored, image, "infection", case)[0].numpy() > HALF
    lungs = lung_mask(image[0].numpy(), voxel_sizes(image.affine.numpy()).tolist(), case) > 0
    inside = float(lungs[infection].mean()) if infection.any() else 1.0
    if inside < LEAST_INSIDE:
        raise ValueError(
            f"Case {case}: {inside:.0%} of the infection mask lies in the lungs. Expected {LEAST_INSIDE:.0%} or more: "
            "check that it belongs to this CT."
        )
    return infection
