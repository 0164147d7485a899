from pathlib import Path

import nibabel
import numpy as np
from custom_components.files.atomic import atomic_path
from custom_components.images.nifti import placed_image
from custom_components.phantom.phantom import Phantom


def write_nifti(phantom: Phantom, folder: str | Path, name: str = "phantom") -> dict[str, Path]:
    """Write a phantom as three NIfTI files.

    Args:
        phantom: what to write.
        folder: where to; made when it does not exist.
        name: start of the file names.

    Returns:
        Paths by kind: ``image`` (int16 HU), ``label`` and ``lung`` (uint8), named ``<name>_<kind>.nii.gz``.
    """
    paths = {kind: Path(folder) / f"{name}_{kind}.nii.gz" for kind in ("image", "label", "lung")}
    write_nifti_array(phantom_hu(phantom), phantom, paths["image"])
    write_nifti_array(phantom.label, phantom, paths["label"])
    write_nifti_array(phantom.lung, phantom, paths["lung"])
    return paths


def write_nifti_array(array: np.ndarray, phantom: Phantom, path: Path) -> None:
    """Write an array that has the geometry of ``phantom``.

    Args:
        array: shape (X, Y, Z); its type is kept.
        phantom: gives spacing and position.
        path: file to write, ending in .nii or .nii.gz.
    """
    with atomic_path(path) as temporary:
        nibabel.save(placed_image(array, phantom.affine), temporary)


def phantom_hu(phantom: Phantom) -> np.ndarray:
    """The image in whole HU: int16, shape (X, Y, Z)."""
    return np.rint(phantom.image_hu).astype(np.int16)
