from typing import Any

import numpy as np
from custom_components.data.atomic_nifti_writer import AtomicNibabelWriter

STEPS = 255


def stored_map(values: np.ndarray) -> np.ndarray:
    """A map as it comes back from its file.

    Args:
        values: map in [0, 1].

    Returns:
        float32, in steps of 1/255.

    Example:
        >>> stored_map(np.array([0.0, 0.5, 1.0])) * STEPS
        array([  0., 128., 255.], dtype=float32)
    """
    return _steps(values) / np.float32(STEPS)


class MapNibabelWriter(AtomicNibabelWriter):
    """Writes a map of [0, 1] with one byte a voxel: NIfTI's own scaling (slope 1/255) gives the values back.

    Adds to AtomicNibabelWriter: the type on disk. A map of 512 x 512 x 300 as float32 would take 315 MB.
    Use it as ``SaveImaged(..., writer="custom_components.MapNibabelWriter", output_dtype=np.float32)``.
    """

    @classmethod
    def create_backend_obj(cls, data_array: Any, affine: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
        """As in MONAI, with the type and scaling of the file set.

        Args:
            data_array: map in [0, 1].
            affine: voxel index to RAS mm.
            dtype: ignored: it is uint8 on disk.
            kwargs: passed on.

        Returns:
            A nibabel image.
        """
        image = super().create_backend_obj(_steps(data_array), affine=affine, dtype=np.uint8, **kwargs)
        image.header.set_slope_inter(1 / STEPS, 0)
        return image


def _steps(values: Any) -> np.ndarray:
    return np.rint(np.clip(np.asarray(values, dtype=np.float32), 0, 1) * STEPS)
