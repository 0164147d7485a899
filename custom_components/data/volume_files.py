"""A volume as a NIfTI file."""

from pathlib import Path

import nibabel
import numpy as np
from custom_components.data.atomic import atomic_path


def save_volume(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a volume, atomically.

    Args:
        array: shape (X, Y, Z); its type is kept.
        affine: (4, 4), voxel index to RAS mm.
        path: the file, ``.nii.gz``.
    """
    image = nibabel.Nifti1Image(np.ascontiguousarray(array), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)
