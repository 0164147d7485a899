"""The axis of an array that runs along the body."""

import numpy as np
from nibabel.orientations import io_orientation


def slice_axis_of(affine: np.ndarray) -> int:
    """Axis of the array that runs along the body.

    Args:
        affine: (4, 4) voxel index to RAS mm.

    Example:
        >>> slice_axis_of(np.diag([-1.0, -1, 2, 1])), slice_axis_of(np.eye(4)[[2, 0, 1, 3]])
        (2, 1)
    """
    return int(np.flatnonzero(io_orientation(affine)[:, 0] == 2)[0])
