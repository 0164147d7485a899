from pathlib import Path
from typing import Any

from custom_components.data.atomic import atomic_path
from monai.config import PathLike
from monai.data import NibabelWriter
from monai.utils import ImageMetaKey


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's NibabelWriter that never leaves half a file and never overwrites the image it was computed from.

    Adds to MONAI: the file is written under a temporary name, flushed to disk and renamed; and with
    ``squeeze_end_dims=False`` a label map of one channel has the axes of its image, where MONAI would write a fourth
    one, and with True would take the third one from a slice (X, Y, 1). Use it as
    ``SaveImaged(..., writer="custom_components.AtomicNibabelWriter", squeeze_end_dims=False)``.
    """

    _source: str | None = None

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """As in MONAI; without squeezing, a single channel is left out all the same.

        Args:
            data_array: image.
            channel_dim: its axis of channels.
            squeeze_end_dims: whether to leave out trailing axes of length 1.
            kwargs: passed on.
        """
        super().set_data_array(data_array, channel_dim, squeeze_end_dims, **kwargs)
        if not squeeze_end_dims and self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def set_metadata(self, meta_dict: Any, resample: bool = True, **options: Any) -> None:
        """As in MONAI; also remembers which file the image came from. Without resampling nothing but the affine is set.

        MONAI would resample all the same, onto the image's own grid, taking the volume for a stack of slices: which
        fails where the first two axes of the array, as in a sagittal one, have no affine of their own.

        Args:
            meta_dict: metadata of the image.
            resample: whether to go back to the original affine.
            options: passed on.
        """
        source = (meta_dict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        self._source = source if isinstance(source, str) else None
        if resample:
            super().set_metadata(meta_dict, resample=True, **options)
        else:
            _, self.affine, _ = self.get_meta_info(meta_dict)

    def write(self, filename: PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the file whole or not at all.

        Args:
            filename: name of the file, ``.nii`` or ``.nii.gz``.
            verbose: whether to log.
            obj_kwargs: passed on.

        Raises:
            ValueError: when the file is the image's own source.
        """
        if self._source is not None and Path(filename).resolve() == Path(self._source).resolve():
            raise ValueError(f"{filename} is the input itself and is never overwritten. Name another `output_dir`.")
        with atomic_path(Path(filename)) as temporary:
            super().write(temporary, verbose=verbose, **obj_kwargs)
