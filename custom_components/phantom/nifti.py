from pathlib import Path

import nibabel
import numpy as np
from custom_components.files.atomic import atomic_path
from custom_components.images.nifti import placed_image
from custom_components.phantom.phantom import Phantom


def write_nifti(phantom: Phantom, folder: str | Path, name: str = "phantom") -> dict[str, Path]:
    """Write a phantom as three NIfTI files.

    Args:
        phantom: the phantom.
        folder: folder of the files; created if missing.
        name: start of the file names.

    Returns:
        Paths by kind: ``image`` (int16 HU), ``label`` and ``lung`` (uint8), named ``<name>_<kind>.nii.gz``.
    """
    arrays = {"image": phantom_hu(phantom), "label": phantom.label, "lung": phantom.lung}
    paths = {kind: Path(folder) / f"{name}_{kind}.nii.gz" for kind in arrays}
    for kind, array in arrays.items():
        write_nifti_array(array, phantom, paths[kind])
    return paths


def write_nifti_array(array: np.ndarray, phantom: Phantom, path: Path) -> None:
    """Write an array (X, Y, Z) with its data type and the affine of ``phantom`` to a .nii or .nii.gz file."""
    with atomic_path(path) as temporary:
        nibabel.save(placed_image(array, phantom.affine), temporary)


def phantom_hu(phantom: Phantom) -> np.ndarray:
    """The image in whole HU: int16, shape (X, Y, Z)."""
    return np.rint(phantom.image_hu).astype(np.int16)
