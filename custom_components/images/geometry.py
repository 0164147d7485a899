"""Check that a mask is aligned with its image in world space, and reorient it to the image's axis order."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
from custom_components.images.ct_reader import ImageHeader
from monai.data import MetaTensor
from monai.utils import MetaKeys
from nibabel.orientations import inv_ornt_aff, io_orientation

# Allowed distance of corners, as a share of the smallest voxel side (headers are rounded to float32).
SAME_PLACE = 0.1

NO_TURN = np.array([[0, 1], [1, 1], [2, 1]])


def mask_mismatch(image: ImageHeader, mask: ImageHeader) -> str:
    """Describe how a mask is misaligned with its image; empty when aligned. Their orientations may differ.

    Args:
        image: size and affine (RAS mm) of the image.
        mask: size and affine of the mask.

    Returns:
        A phrase to put after the mask's name: what was found and what to do.

    Example:
        >>> image = ImageHeader((5, 6, 7), np.diag([1.0, 1, 2, 1]))
        >>> flipped = ImageHeader((5, 6, 7), np.array([[1.0, 0, 0, 0], [0, -1, 0, 5], [0, 0, 2, 0], [0, 0, 0, 1]]))
        >>> mask_mismatch(image, flipped)
        ''
        >>> mask_mismatch(image, ImageHeader((6, 5, 7), image.affine))
        'is 6 x 5 x 7 but the image is 5 x 6 x 7. Export both at the same size'
    """
    turn = _turn(image.affine, mask.affine)
    shape = tuple(int(size) for size in np.asarray(mask.shape)[np.argsort(turn[:, 0])])
    if image.shape != shape:
        return f"is {_size(shape)} but the image is {_size(image.shape)}. Export both at the same size"
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in image.shape))]).T
    turned = mask.affine @ inv_ornt_aff(turn, mask.shape)
    apart_mm = float(np.linalg.norm((image.affine @ corners - turned @ corners)[:3], axis=0).max())
    if apart_mm > SAME_PLACE * np.linalg.norm(image.affine[:3, :3], axis=0).min():
        return (
            f"is misaligned with the image by up to {apart_mm:.1f} mm. Copy the image's header (affine) into the mask"
        )
    return ""


def volume_header(volume: MetaTensor) -> ImageHeader:
    """Size and affine of a volume (1, X, Y, Z) or a slice (1, X, Y)."""
    x, y, z = (*volume.shape[1:], 1)[:3]
    return ImageHeader((x, y, z), volume.affine.cpu().numpy().astype(float))


def mask_on_image(mask: Any, image: Any, name: str, case: str) -> Any:
    """Reorient a mask to the axis order and directions of its image, without interpolation.

    Args:
        mask: MetaTensor (1, X, Y, Z) in any orientation.
        image: MetaTensor (1, X, Y, Z) of the same scan.
        name: name of the mask in messages.
        case: name of the case.

    Returns:
        The mask with the shape and affine of the image. A mask is returned unchanged if one of the two is not a
        MetaTensor, has several channels, or has another number of axes.

    Raises:
        ValueError: names the case when the mask is not aligned with the image voxel by voxel.

    Example:
        >>> import torch
        >>> image = MetaTensor(torch.zeros(1, 4, 3, 2), affine=torch.eye(4))
        >>> affine = torch.tensor([[-1.0, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        >>> mask = MetaTensor(torch.arange(24).reshape(1, 4, 3, 2), affine=affine)  # its first axis is reversed
        >>> mask_on_image(mask, image, "lung", "012")[0, :, 0, 0].tolist()
        [18, 12, 6, 0]
    """
    if not (_is_volume(mask) and _is_volume(image)):
        return mask
    check_on_image(mask, image, name, case)
    voxels = mask.as_tensor()
    if is_turned(mask, image):
        turn = _turn(image.affine.cpu().numpy(), mask.affine.cpu().numpy())
        flipped = [int(axis) + 1 for axis in np.flatnonzero(turn[:, 1] < 0)]
        voxels = voxels.flip(flipped).permute(0, *(np.argsort(turn[:, 0]) + 1).tolist())
    place = {MetaKeys.ORIGINAL_AFFINE: image.affine.clone(), MetaKeys.SPATIAL_SHAPE: np.asarray(image.shape[1:])}
    return MetaTensor(voxels, meta={**mask.meta, **place, MetaKeys.AFFINE: image.affine.clone()})


def check_on_image(mask: Any, image: Any, name: str, case: str) -> None:
    """Check that a mask is aligned with its image; arguments as for :func:`mask_on_image`.

    Raises:
        ValueError: names the case, what was found and what to do.
    """
    if not (_is_volume(mask) and _is_volume(image)):
        return
    what = mask_mismatch(volume_header(image), volume_header(mask))
    if what:
        raise ValueError(f"Case {case}: {name} {what}.")


def is_turned(mask: Any, image: Any) -> bool:
    """Whether a mask has another axis order or direction than the image; arguments as for the functions above.

    Example:
        >>> one = MetaTensor([[[[0.0]]]])
        >>> is_turned(one, one)
        False
    """
    if not (_is_volume(mask) and _is_volume(image)):
        return False
    return not np.array_equal(_turn(image.affine.cpu().numpy(), mask.affine.cpu().numpy()), NO_TURN)


def _is_volume(volume: Any) -> bool:
    return isinstance(volume, MetaTensor) and volume.ndim == 4


def _turn(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Orientation transform (signed permutation) from the mask's axes to the image's, also for oblique axes."""
    return io_orientation(np.linalg.inv(image) @ mask)


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(size) for size in shape)
