"""A volume as a NIfTI file."""

from pathlib import Path

import nibabel
import numpy as np
from custom_components.data.atomic import atomic_path
from custom_components.data.nifti_header import placed_image


def save_volume(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a volume, atomically; qform and sform agree.

    Args:
        array: shape (X, Y, Z); its type is kept.
        affine: (4, 4), voxel index to RAS mm.
        path: the file, ``.nii.gz``.
    """
    with atomic_path(path) as temporary:
        nibabel.save(placed_image(np.ascontiguousarray(array), affine), temporary)
