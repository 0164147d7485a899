from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from custom_components.dicom.files import is_dicom_file
from custom_components.dicom.headers import ImageFile
from custom_components.dicom.series import check_dicom_series, holds_dicom
from custom_components.dicom.study import readable_image
from custom_components.dicom.surround import MEASURED_HU, fill_surround, surround_note
from custom_components.dicom.values import READ_AS_SIGNED, nifti_hu
from custom_components.dicom.volume import series_volume
from custom_components.images.gpu_decoder import hide_gpu_decoder_messages
from custom_components.images.nifti import (
    NIFTI_SUFFIXES,
    check_affine,
    check_extent,
    check_form,
    check_size,
    orientation_notes,
    start_headers,
    whole_image,
)
from custom_components.images.slice_axis import slice_axis_of
from custom_components.labels import LUNG_WINDOW_HU
from monai.config import PathLike
from monai.data import PILReader
from monai.data.image_reader import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from PIL import Image

# PNG rows run to posterior, columns to the patient's left; the unknown pixel size is set to 1 mm.
PNG_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])

IMAGE_SUFFIXES = (".png", *NIFTI_SUFFIXES)
KNOWN_SUFFIXES = (*IMAGE_SUFFIXES, ".dcm", ".jpeg", ".jpg")

# Metadata key of the tolerated irregularities of a scan, as one text; empty when there are none.
NOTES = "reading_notes"

# A chest has air below and tissue above.
AIR_OR_TISSUE_HU = -200.0
# Metal takes up a smaller share of a scan.
MOST_BRIGHT = 0.01

COLOUR_MODES = {
    "1": "1-bit black and white",
    "P": "a colour palette",
    "RGB": "colour (RGB)",
    "RGBA": "colour (RGBA)",
    "LA": "greyscale with transparency",
}

_logger = logging.getLogger(__name__)
_warned: set[tuple[str, tuple[str, ...]]] = set()


@dataclass(frozen=True)
class ImageHeader:
    """Size and position of an image, read without its voxels.

    Args:
        shape: size indexed [x, y, z]; z is 1 for a slice.
        affine: (4, 4) voxel index to RAS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray


def case_name(path: PathLike) -> str:
    """Case name of a path: the file name without image suffix, or the name of the DICOM folder.

    Example:
        >>> case_name("images/012.nii.gz"), case_name("covid.1/012.PNG"), case_name("scans/1.2.840")
        ('012', '012', '1.2.840')
    """
    name = Path(path).name or Path(path).resolve().name
    suffix = next((suffix for suffix in KNOWN_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def image_header(path: PathLike) -> ImageHeader:
    """Read size and affine of a PNG, a NIfTI file or a DICOM folder, and check that it can be a CT slice or volume.

    Args:
        path: PNG or NIfTI file, or the folder of one DICOM series.

    Returns:
        The header.

    Raises:
        ValueError: names the case, what was found and what to do.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "DICOM":
        series = check_dicom_series(path)
        return ImageHeader(series.shape, series.affine)
    return _png_header(path) if kind == "PNG" else _nifti_header(path)


class CTReader(ImageReader):
    """Read a CT slice or volume (PNG, NIfTI or DICOM) as HU, indexed [x, y, z], with its RAS affine.

    | input | read by | HU |
    |---|---|---|
    | ``.png``, 8-bit greyscale | MONAI's PILReader | 0 maps to the window's lower end, 255 to its upper end |
    | ``.nii``, ``.nii.gz``; a slice or a volume | nibabel, gzip to its end | as stored |
    | folder of one DICOM series | ``series_volume``, after ``check_dicom_series`` | rescaled |
    | a name for the case, and the files of one DICOM series | the same | rescaled |

    A slice has z = 1. The metadata contain geometry only, never a DICOM header. Files are read in ``get_data``, not in
    ``read``, because ``LoadImage`` hides the errors of ``read`` behind its own.

    Args:
        window_hu: HU of the PNG intensities 0 and 255.

    Raises:
        ValueError: when the lower end is not below the upper end.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "012.png"
        >>> Image.fromarray(np.array([[0, 255, 0]], dtype=np.uint8)).save(path)
        >>> reader = CTReader()
        >>> reader.get_data(reader.read(path))[0].ravel().tolist()
        [-1350.0, 150.0, -1350.0]
    """

    def __init__(self, window_hu: Sequence[float] = LUNG_WINDOW_HU) -> None:
        hide_gpu_decoder_messages()
        super().__init__()
        low, high = (float(value) for value in window_hu)
        if not low < high:
            raise ValueError(f"window_hu is ({low:g}, {high:g}). Expected (lower, upper) in HU with lower < upper.")
        self.window_hu = (low, high)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether each path is a PNG, a NIfTI file or a folder."""
        paths = [Path(name) for name in ensure_tuple(filename)]
        return all(path.is_dir() or path.name.lower().endswith(IMAGE_SUFFIXES) for path in paths)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """Return the path or paths; ``get_data`` reads them."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict]:
        """Read the image.

        Args:
            img: what ``read`` returned: one path; or a name, and the files of a DICOM series.

        Returns:
            float32 array (X, Y, Z) and metadata: affine, original_affine, spatial_shape, space,
            original_channel_dim, reading_notes.

        Raises:
            ValueError: names the case when the input is not one of the supported kinds.
        """
        path, *series = img
        array, affine, notes = self._read_series(path, series) if series else self._read_volume(path)
        with np.errstate(over="ignore"):
            array = np.asarray(array, dtype=np.float32)
        _check_finite(array, path)
        notes = notes if series else self._mend(array, affine, path) + notes
        self._look(array, path)
        warn_once(case_name(path), notes)
        return array, {**_metadata(array.shape, affine), NOTES: "; ".join(notes)}

    def _read_volume(self, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Values, affine, and notes on irregularities of the file."""
        kind = _kind(path)
        if kind == "PNG":
            grey, affine = _read_png(path)
            return self._from_grey(grey), affine, ()
        return _read_nifti(path, self._nifti_values) if kind == "NIfTI" else _read_dicom(path, case_name(path))

    def _read_series(self, path: Path, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """The same for the files of one DICOM series, for the case that a path is named after."""
        case, images = case_name(path), [image for file in files if (image := readable_image(file)) is not None]
        if len(images) < len(files):
            raise ValueError(
                f"Case {case}: {len(files) - len(images)} of {len(files)} files are truncated or not DICOM files. "
                "Expected the files of one series: copy or export it again."
            )
        return _read_dicom(images, case)

    def _nifti_values(self, image: Any) -> tuple[np.ndarray, tuple[str, ...]]:
        """Values of a nibabel image, and notes on irregularities."""
        array, was_unsigned = nifti_hu(image)
        return array, (READ_AS_SIGNED,) if was_unsigned else ()

    def _mend(self, array: np.ndarray, affine: np.ndarray, path: Path) -> tuple[str, ...]:
        """Replace, in place, values outside the field of view; for DICOM, ``series_volume`` has done so."""
        return surround_to_air(array, affine) if _kind(path) == "NIfTI" else ()

    def _look(self, array: np.ndarray, path: Path) -> None:
        """Warn about values that cannot be a chest in HU; no error, because a slice without lungs may look so."""
        low, high = float(array.min()) + 0.0, float(array.max()) + 0.0
        if not low < AIR_OR_TISSUE_HU < high:
            _logger.warning(
                "Case %s: values are %g to %g. Expected a chest in HU, air below %g and tissue above: check that the "
                "rescale slope and intercept are applied exactly once, and that these are not display intensities.",
                case_name(path), low, high, AIR_OR_TISSUE_HU,
            )  # fmt: skip
        elif high > MEASURED_HU[1] and (bright := np.count_nonzero(array > MEASURED_HU[1])) > MOST_BRIGHT * array.size:
            _logger.warning(
                "Case %s: %.1f %% of the voxels are above %g HU, brighter than tissue, contrast and bone. Check the "
                "rescale slope and intercept, and the values outside the field of view.",
                case_name(path), 100 * bright / array.size, MEASURED_HU[1],
            )  # fmt: skip

    def _from_grey(self, grey: np.ndarray) -> np.ndarray:
        low, high = self.window_hu
        return (low + grey.astype(np.float64) / 255 * (high - low)).astype(np.float32)


class LabelReader(CTReader):
    """Read a label mask, indexed [x, y, z], with its RAS affine: like ``CTReader``, but with the values as stored.

    Accepts 8-bit greyscale PNG and NIfTI. ``CheckLabeld`` checks the values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "012.png"
        >>> Image.fromarray(np.array([[0, 3, 255]], dtype=np.uint8)).save(path)
        >>> reader = LabelReader()
        >>> reader.get_data(reader.read(path))[0].ravel().tolist()
        [0.0, 3.0, 255.0]
    """

    def __init__(self) -> None:
        hide_gpu_decoder_messages()
        super().__init__()

    def _read_volume(self, path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        if path.is_dir():
            raise ValueError(f"Case {case_name(path)}: the label is a folder. Expected a PNG or NIfTI mask.")
        return super()._read_volume(path)

    def _read_series(self, path: Path, files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        raise ValueError(f"Case {case_name(path)}: the label has {1 + len(files)} files. Expected one mask.")

    def _from_grey(self, grey: np.ndarray) -> np.ndarray:
        return grey

    def _nifti_values(self, image: Any) -> tuple[np.ndarray, tuple[str, ...]]:
        """Labels are kept as stored."""
        return np.asanyarray(image.dataobj), ()

    def _mend(self, array: np.ndarray, affine: np.ndarray, path: Path) -> tuple[str, ...]:
        """Labels are kept as stored."""
        return ()

    def _look(self, array: np.ndarray, path: Path) -> None:
        """Labels have no HU."""


def warn_once(case: str, notes: Sequence[str], words: str = "is read with warnings") -> None:
    """Log irregularities of a case or its masks once per process, even if the case is read often.

    Args:
        case: name of the case.
        notes: phrases that do not name the patient; nothing is logged if there are none.
        words: text between the case and the notes.
    """
    key = (case, tuple(notes))
    if notes and key not in _warned:
        _warned.add(key)
        _logger.warning("Case %s %s: %s.", case, words, "; ".join(notes))


def surround_to_air(array: np.ndarray, affine: np.ndarray) -> tuple[str, ...]:
    """Set voxels outside the field of view of a CT's axial slices to air, in place.

    Args:
        array: HU (X, Y, Z) in any orientation.
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        A note on what was changed, if anything.
    """
    slices = np.moveaxis(array, slice_axis_of(affine), 0)
    changed, found = fill_surround(slices)
    return (note,) if (note := surround_note(changed, len(slices), found)) else ()


def _kind(path: Path) -> str:
    """``PNG``, ``NIfTI`` or ``DICOM``; other files raise an error that says what to give instead."""
    case, name = case_name(path), path.name.lower()
    if not path.exists():
        raise ValueError(f"Case {case}: {path} does not exist. Check the path or the datalist.")
    if path.is_dir():
        _check_folder(path)
        return "DICOM"
    if not path.is_file():
        raise ValueError(f"Case {case}: {path.name} is neither a file nor a folder. Give the file itself.")
    if name.endswith(".png"):
        return "PNG"
    if name.endswith(NIFTI_SUFFIXES):
        return "NIfTI"
    if name.endswith((".jpg", ".jpeg")):
        raise ValueError(
            f"Case {case}: {path.name} is a JPEG, whose intensities have no known HU scale. Convert the folder first: "
            "python -m custom_components convert_jpg IMAGES_DIR OUTPUT_DIR --air_grey ... --fat_grey ..."
        )
    if name.endswith(".dcm") or is_dicom_file(path):
        raise ValueError(f"Case {case}: {path.name} is one DICOM file. Give the folder of its series instead.")
    raise ValueError(
        f"Case {case}: {path.name} has an unsupported format. Expected an 8-bit greyscale PNG, "
        "a NIfTI file (.nii, .nii.gz) or a folder of one DICOM series."
    )


def _check_folder(path: Path) -> None:
    if path.name.lower().endswith(IMAGE_SUFFIXES) and not holds_dicom(path):
        raise ValueError(
            f"Case {case_name(path)}: {path.name} is a folder without DICOM files. Expected a file: give the file "
            "inside the folder."
        )


@contextmanager
def _readable(path: Path, kind: str, case: str = "") -> Iterator[None]:
    """Replace a library's error about a broken file by one message that names the file."""
    try:
        yield
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"Case {case or case_name(path)}: {path.name} is truncated or not a {kind} file: {reason}. "
            "Copy or export the file again."
        ) from error


def _png_header(path: Path) -> ImageHeader:
    try:
        with _readable(path, "PNG"), Image.open(path, formats=["PNG"]) as image:
            mode, (width, height), frames = image.mode, image.size, getattr(image, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"Case {case_name(path)}: {path.name} has more pixels than the limit "
            f"({2 * (Image.MAX_IMAGE_PIXELS or 0):,}). Expected one CT slice: export it again."
        ) from error
    if frames > 1:
        raise ValueError(
            f"Case {case_name(path)}: {path.name} is animated ({frames} frames). Expected one slice: save each frame "
            "as its own file, or the CT as NIfTI in HU."
        )
    if mode != "L":
        found = COLOUR_MODES.get(mode, f"of mode {mode} (16 or 32 bits)")
        raise ValueError(
            f"Case {case_name(path)}: {path.name} is {found}. Expected 8-bit greyscale. "
            "Save it as 8-bit greyscale PNG (PIL mode 'L'), or the CT as NIfTI in HU."
        )
    return ImageHeader((width, height, 1), PNG_AFFINE)


def _read_png(path: Path) -> tuple[np.ndarray, np.ndarray]:
    header, reader = _png_header(path), PILReader()
    with _readable(path, "PNG"):
        grey, _ = reader.get_data(reader.read(path))
    return grey[..., None], header.affine


def _nifti_header(path: Path) -> ImageHeader:
    return _nifti(path)[0]


def _nifti(path: Path) -> tuple[ImageHeader, int]:
    """The checked header, and the uncompressed file size that it declares."""
    case = case_name(path)
    with _readable(path, "NIfTI"):
        headers = start_headers(path)
    check_form(path, case, *headers)
    with _readable(path, "NIfTI"):
        image: Any = nibabel.load(path)
        shape, affine, dtype = tuple(image.shape), np.asarray(image.affine, dtype=float), image.get_data_dtype()
        if image.dataobj.offset < len(image.header.binaryblock):
            raise ValueError(f"its voxel data would start at byte {image.dataobj.offset}, inside its header")
    if dtype.kind not in "biuf":
        kind = "complex" if dtype.kind == "c" else "colour"
        raise ValueError(
            f"Case {case}: {path.name} stores {kind} values. Expected one number per voxel (intensity or HU): "
            "convert the file."
        )
    if len(shape) < 2 or any(size > 1 for size in shape[3:]):
        raise ValueError(
            f"Case {case}: {path.name} has shape {shape}. Expected one slice (X, Y) or one volume (X, Y, Z): "
            "save each time point or channel as a case of its own."
        )
    if min(shape) < 1:
        raise ValueError(f"Case {case}: {path.name} is empty, its shape is {shape}. Export the file again.")
    voxels = math.prod(shape)
    told_bytes = int(image.dataobj.offset) + voxels * dtype.itemsize
    check_size(path, case, voxels, told_bytes)
    check_affine(path, case, affine)
    check_extent(path, case, affine, shape)
    x, y, z = (*shape, 1)[:3]
    return ImageHeader((x, y, z), affine), told_bytes


def _read_nifti(
    path: Path, values_of: Callable[[Any], tuple[np.ndarray, tuple[str, ...]]]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    header, told_bytes = _nifti(path)
    with _readable(path, "NIfTI"):
        image, notes = whole_image(path, told_bytes)
        array, odd = values_of(image)
    return array.reshape(header.shape), header.affine, orientation_notes(image) + odd + notes


def _read_dicom(files: Path | Sequence[ImageFile], case: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    series = check_dicom_series(files, case)
    array, notes = series_volume(series, case)
    return array, series.affine, notes


def _check_finite(array: np.ndarray, path: Path) -> None:
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise ValueError(
            f"Case {case_name(path)}: {wrong:,} of {array.size:,} values are NaN or infinite. "
            "Expected finite values: fill them in, or export the image again."
        )


def _metadata(shape: tuple[int, ...], affine: np.ndarray) -> dict:
    return {
        MetaKeys.AFFINE: affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
    }
