from pathlib import Path
from typing import Any

from monai.config import PathLike
from monai.data import NibabelWriter
from monai.utils import ImageMetaKey

from custom_components.data.atomic import atomic_path


class AtomicNibabelWriter(NibabelWriter):
    """MONAI's NibabelWriter that never leaves half a file and never overwrites the image it was computed from.

    Adds to MONAI: the file is written under a temporary name, flushed to disk and renamed. Use it as
    ``SaveImaged(..., writer="custom_components.data.atomic_nifti_writer.AtomicNibabelWriter")``.
    """

    _source: str | None = None

    def set_metadata(self, meta_dict: Any, resample: bool = True, **options: Any) -> None:
        """As in MONAI; also remembers which file the image came from.

        Args:
            meta_dict: metadata of the image.
            resample: whether to go back to the original affine.
            options: passed on.
        """
        source = (meta_dict or {}).get(ImageMetaKey.FILENAME_OR_OBJ)
        self._source = source if isinstance(source, str) else None
        super().set_metadata(meta_dict, resample=resample, **options)

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
