"""Whether a mask lies on its image, whichever orientation each is stored in."""

from collections.abc import Iterable

import numpy as np
from custom_components.data.ct_reader import ImageHeader
from nibabel.orientations import inv_ornt_aff, io_orientation

# Corners of image and mask may lie this share of the smallest voxel side apart (headers are rounded to float32).
SAME_PLACE = 0.1


def mask_mismatch(image: ImageHeader, mask: ImageHeader) -> str:
    """How a mask does not lie on its image; empty when it does. The two may be stored in different orientations.

    Args:
        image: size and affine (RAS mm) of the image.
        mask: those of the mask.

    Returns:
        The rest of a sentence that begins with the mask's name: what was found, what was expected, what to do.

    Example:
        >>> image = ImageHeader((5, 6, 7), np.diag([1.0, 1, 2, 1]))
        >>> flipped = ImageHeader((5, 6, 7), np.array([[1.0, 0, 0, 0], [0, -1, 0, 5], [0, 0, 2, 0], [0, 0, 0, 1]]))
        >>> mask_mismatch(image, flipped)
        ''
        >>> mask_mismatch(image, ImageHeader((6, 5, 7), image.affine))
        'is 6 x 5 x 7 but the image 5 x 6 x 7. Export both at the same size'
    """
    image, mask = canonical_header(image), canonical_header(mask)
    if image.shape != mask.shape:
        return f"is {_size(mask.shape)} but the image {_size(image.shape)}. Export both at the same size"
    ends = np.array([[0, 0, 0, 1], [*(size - 1 for size in image.shape), 1]], dtype=float).T
    voxel_mm = np.linalg.norm(image.affine[:3, :3], axis=0).min()
    apart_mm = float(np.abs(image.affine @ ends - mask.affine @ ends).max())
    if apart_mm > SAME_PLACE * voxel_mm:
        return f"lies up to {apart_mm:.1f} mm off the image. Copy the image's header (affine) into the mask"
    return ""


def canonical_header(header: ImageHeader) -> ImageHeader:
    """Header of the same image stored in the axis order and directions closest to RAS."""
    orientation = io_orientation(header.affine)
    x, y, z = (int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3))
    shape = (header.shape[x], header.shape[y], header.shape[z])
    return ImageHeader(shape, header.affine @ inv_ornt_aff(orientation, header.shape))


def _size(shape: Iterable[int]) -> str:
    return " x ".join(str(size) for size in shape)
