"""Reorient the arrays of a file for display."""

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from custom_components.images.slice_axis import slice_axis_of

_MM3_PER_ML = 1000.0


def voxel_volume_ml(affine: np.ndarray) -> float:
    """Volume of one voxel.

    Args:
        affine: voxel index to mm, shape (4, 4).

    Returns:
        Volume in ml.

    Example:
        >>> voxel_volume_ml(np.diag([-2.0, -5.0, 10.0, 1.0]))
        0.1
    """
    x, y, z = np.asarray(affine, dtype=np.float64)[:3, :3].T
    return float(abs(np.dot(x, np.cross(y, z)))) / _MM3_PER_ML


class Display:
    """Reorientation of a file's arrays for display: x to the patient's left, y to posterior, z to superior.

    Args:
        affine: voxel index to mm (RAS), shape (4, 4).

    Attributes:
        file_spacing_mm: voxel size along the axes of the file.
        spacing_mm: voxel size along x, y and z.
        slice_axis: axis of the file that becomes z.
        voxel_ml: volume of a voxel.

    Example:
        >>> display = Display(np.diag([-1.0, 2.0, 5.0, 1.0]))
        >>> display.turned(np.array([[[1], [2]]])).tolist(), display.spacing_mm, display.slice_axis
        ([[[2], [1]]], (1.0, 2.0, 5.0), 2)
    """

    def __init__(self, affine: np.ndarray) -> None:
        affine = np.asarray(affine, dtype=np.float64)
        self._turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt("LPS"))
        x, y, _ = np.argsort(self._turn[:, 0]).tolist()
        self.slice_axis = slice_axis_of(affine)
        self.file_spacing_mm: list[float] = np.linalg.norm(affine[:3, :3], axis=0).tolist()
        self.spacing_mm = (self.file_spacing_mm[x], self.file_spacing_mm[y], self.file_spacing_mm[self.slice_axis])
        self.voxel_ml = voxel_volume_ml(affine)

    def turned(self, array: Any) -> Any:
        """View of an array in display orientation; None stays None."""
        return None if array is None else nib.apply_orientation(array, self._turn)

    def slice_indices(self, file_shape: Sequence[int]) -> range:
        """File index of each displayed slice, from bottom to top."""
        return range(file_shape[self.slice_axis])[:: int(self._turn[self.slice_axis, 1])]
