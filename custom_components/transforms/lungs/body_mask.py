import numpy as np
import torch
from monai.utils import convert_to_numpy
from scipy import ndimage

# Lower limit of the body in a lung window scaled to 0..1: -600 HU in the window [-1350, 150].
BODY_INTENSITY = 0.5
# Slices are reduced to about this many pixels along the longer side.
COARSE_SIZE = 128
# Tables and text are thinner than twice this many reduced pixels.
OPENING = 2
# A smaller share of the image is not a body.
LEAST_SHARE = 0.05


def body_mask(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """Rough body mask for MONAI's ``CropForeground``, which uses only its bounding box.

    The mask is the largest bright component, with holes (lungs) filled in each slice and thin parts (table, text)
    removed. If there is no such component, the mask is the whole image and nothing is cropped.

    Args:
        image: shape (1, X, Y) or (1, X, Y, Z), a lung window scaled to 0..1; slices are X by Y.

    Returns:
        Boolean, same shape.

    Raises:
        ValueError: when the shape is different.

    Example:
        >>> image = np.zeros((1, 80, 120))
        >>> image[0, 20:60, 30:100] = 0.9  # the body
        >>> image[0, 70:73, 10:110] = 0.9  # the table under it
        >>> rows, columns = np.nonzero(body_mask(image)[0])
        >>> int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
        (20, 59, 30, 99)
    """
    array = convert_to_numpy(image)
    if array.ndim not in (3, 4) or array.shape[0] != 1:
        raise ValueError(f"Expected an image of shape (1, X, Y) or (1, X, Y, Z), got {array.shape}.")
    step = max(1, round(max(array.shape[1:3]) / COARSE_SIZE))
    body = _largest_component(_without_thin(array[0, ::step, ::step] > BODY_INTENSITY))
    if body.mean() < LEAST_SHARE:
        return np.ones(array.shape, bool)
    fine = body.repeat(step, axis=0).repeat(step, axis=1)
    return fine[None, : array.shape[1], : array.shape[2]]


def _without_thin(mask: np.ndarray) -> np.ndarray:
    """Fill holes, then apply an opening, in each slice; bright parts continue beyond the image border."""
    cross = ndimage.generate_binary_structure(2, 1)
    disk = ndimage.iterate_structure(cross, OPENING)
    cross, disk = (shape.reshape(shape.shape + (1,) * (mask.ndim - 2)) for shape in (cross, disk))
    filled = ndimage.binary_fill_holes(mask, np.pad(cross, [(0, 0)] * 2 + [(1, 1)] * (mask.ndim - 2)))
    return ndimage.binary_dilation(ndimage.binary_erosion(filled, disk, border_value=1), disk, mask=filled)


def _largest_component(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    return labels == 1 + sizes.argmax() if count else mask
