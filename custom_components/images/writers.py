"""Write volumes as NIfTI files."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from custom_components.files.atomic import atomic_path
from custom_components.images.ct_reader import case_name
from custom_components.images.nifti import placed_image
from monai.config import PathLike
from monai.data import NibabelWriter
from monai.data.folder_layout import FolderLayoutBase
from monai.utils import ImageMetaKey

STEPS = 255


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's NibabelWriter that never leaves a partial file and never overwrites the input image.

    Adds to MONAI: the file is written under a temporary name, flushed to disk and renamed. With
    ``squeeze_end_dims=False`` a one-channel label map has the axes of its image; MONAI would write a fourth axis, or
    with True drop the third axis of a slice (X, Y, 1). Use it as
    ``SaveImaged(..., writer="custom_components.AtomicNibabelWriter", squeeze_end_dims=False)``.
    """

    _source: str | None = None

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """As in MONAI, but a single channel is dropped even without squeezing.

        Args:
            data_array: image.
            channel_dim: its channel axis.
            squeeze_end_dims: whether to drop trailing axes of length 1.
            kwargs: passed on.
        """
        super().set_data_array(data_array, channel_dim, squeeze_end_dims, **kwargs)
        if not squeeze_end_dims and self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def set_metadata(self, meta_dict: Any, resample: bool = True, **options: Any) -> None:
        """As in MONAI; also remembers the source file. Without resampling, only the affine is set.

        MONAI would still resample to the image's own grid, slice by slice, which fails for arrays such as sagittal ones
        whose first two axes have no affine of their own.

        Args:
            meta_dict: metadata of the image.
            resample: whether to resample to the original affine.
            options: passed on.
        """
        source = (meta_dict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        self._source = source if isinstance(source, str) else None
        if resample:
            super().set_metadata(meta_dict, resample=True, **options)
        else:
            _, self.affine, _ = self.get_meta_info(meta_dict)

    def write(self, filename: PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the file atomically.

        Args:
            filename: path of the file, ``.nii`` or ``.nii.gz``.
            verbose: whether to log.
            obj_kwargs: passed on.

        Raises:
            ValueError: when the file is the input image.
        """
        if self._source is not None and Path(filename).resolve() == Path(self._source).resolve():
            raise ValueError(f"{filename} is the input itself and is never overwritten. Set another `output_dir`.")
        with atomic_path(Path(filename)) as temporary:
            super().write(temporary, verbose=verbose, **obj_kwargs)


def stored_map(values: np.ndarray) -> np.ndarray:
    """A map with the values that its file will have.

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
    """Write a map in [0, 1] with one byte per voxel; NIfTI's scaling (slope 1/255) restores the values.

    Adds to AtomicNibabelWriter: uint8 on disk. A map of 512 x 512 x 300 as float32 would take 315 MB.
    Use it as ``SaveImaged(..., writer="custom_components.MapNibabelWriter", output_dtype=np.float32)``.
    """

    @classmethod
    def create_backend_obj(cls, data_array: Any, affine: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
        """As in MONAI, with the type and scaling of the file set.

        Args:
            data_array: map in [0, 1].
            affine: voxel index to RAS mm.
            dtype: ignored, the file has uint8.
            kwargs: passed on.

        Returns:
            A nibabel image.
        """
        image = super().create_backend_obj(_steps(data_array), affine=affine, dtype=np.uint8, **kwargs)
        image.header.set_slope_inter(1 / STEPS, 0)
        return image


def _steps(values: Any) -> np.ndarray:
    return np.rint(np.clip(np.asarray(values, dtype=np.float32), 0, 1) * STEPS)


def save_volume(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write a volume, atomically; qform and sform agree.

    Args:
        array: shape (X, Y, Z); its data type is kept.
        affine: (4, 4), voxel index to RAS mm.
        path: path of the file, ``.nii.gz``.
    """
    with atomic_path(path) as temporary:
        nibabel.save(placed_image(np.ascontiguousarray(array), affine), temporary)


class CaseFolderLayout(FolderLayoutBase):
    """Layout for ``SaveImage``: ``<output_dir>/<case>/<case>_<postfix><extension>``.

    MONAI's FolderLayout removes text after the last dot, even of a DICOM folder name, which often is a UID.

    Args:
        output_dir: parent of the case folders.
        postfix: text after the case name.
        extension: suffix of the file.

    Example:
        >>> CaseFolderLayout("eval", "seg", ".nii.gz").filename("scans/1.2.840").as_posix()
        'eval/1.2.840/1.2.840_seg.nii.gz'
    """

    def __init__(self, output_dir: PathLike, postfix: str, extension: str) -> None:
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.extension = extension

    def filename(self, subject: PathLike = "subject", idx: int | None = None, **kwargs: Any) -> Path:
        """Name of the file.

        Args:
            subject: file or folder that the image was loaded from.
            idx: number of a patch, appended to the name.
            kwargs: appended to the name.

        Returns:
            The path; its folder is not created.
        """
        case = case_name(subject)
        index = [] if idx is None else [str(idx)]
        more = [self.postfix, *index, *(f"{key}-{value}" for key, value in kwargs.items())]
        return self.output_dir / case / f"{'_'.join([case, *more])}{self.extension}"
