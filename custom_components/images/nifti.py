"""Check NIfTI files: sizes that fit the file and memory, a valid geometry in mm, and complete data."""

import gzip
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from custom_components.dicom.series import SHEAR_TOLERANCE_DEGREES
from nibabel import Nifti1Header, Nifti1Image, Nifti2Header, Nifti2Image
from nibabel.openers import ImageOpener

NIFTI_SUFFIXES = (".nii.gz", ".nii")
# More voxels than any CT: 4,096 slices of 512 x 512, which take 4 GiB as float32.
MOST_VOXELS = 2**30
# Highest compression ratio of gzip.
MOST_DEFLATED = 1032
# Bytes allowed after the voxels of a file, or between header and voxels.
SPARE_BYTES, START_BYTES = 2**20, 2**24
# Smallest voxel and longest scan; values beyond these are in metres or micrometres.
LEAST_VOXEL_MM, MOST_EXTENT_MM = 0.05, 5000.0
GZIP_START = b"\x1f\x8b"
# Code of qform and sform: aligned with another image.
UNKNOWN, ALIGNED = 0, 2

NO_ORIENTATION = (
    "its header does not give the orientation (qform_code and sform_code are 0), so left and right, front and back, "
    "head and feet are a guess: check the sides, or convert the scan from DICOM again"
)
TWO_ORIENTATIONS = (
    "its qform and sform differ by up to {apart_mm:.0f} mm; the sform is used: check the sides, other programs may "
    "use the qform"
)
BROKEN_QFORM = "its qform is not a rotation; the sform is used: other programs may not open it"
FOLLOWED = "the bytes after the end of its gzip data are ignored"


def start_headers(path: Path) -> tuple[Nifti1Header, Nifti1Header]:
    """Parse the header from the first bytes only, because nibabel would decompress an extension of any size.

    Args:
        path: NIfTI file.

    Returns:
        The header as repaired by nibabel, and as stored.

    Raises:
        Exception: nibabel's error for a header that it cannot parse; a ValueError when the compression does not match
            the file name, or the file is shorter than a header.
    """
    _check_packed_as_named(path)
    with ImageOpener(str(path)) as file:
        start = file.read(Nifti2Header.template_dtype.itemsize)
        has_extensions = start[Nifti1Header.template_dtype.itemsize :][:1] not in (b"", b"\0")
        start += file.read(START_BYTES) if has_extensions else b""
    if len(start) < Nifti1Header.template_dtype.itemsize:
        raise ValueError(f"it has {len(start)} bytes, fewer than a header")
    kind = Nifti2Header if Nifti2Header.may_contain_header(start) else Nifti1Header
    return kind.from_fileobj(BytesIO(start)), kind(start[: kind.template_dtype.itemsize], check=False)


def _check_packed_as_named(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(GZIP_START))
    if start and (start == GZIP_START) != _is_gz(path):
        raise ValueError(
            "it is not gzip-compressed, although its name ends in .gz: rename it to .nii"
            if _is_gz(path)
            else "it is gzip-compressed: rename it to .nii.gz"
        )


def _is_gz(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def check_form(path: Path, case: str, header: Nifti1Header, stored: Nifti1Header) -> None:
    """Check voxel size and quaternion of a header without an sform; nibabel would read 0 mm as 1 mm.

    Args:
        path: the file.
        case: name of the case.
        header: header as repaired by nibabel.
        stored: header as stored.

    Raises:
        ValueError: naming the case.
    """
    if header["sform_code"] != UNKNOWN:
        return
    voxel_mm = stored["pixdim"][1 : 1 + min(3, int(header["dim"][0]))]
    if np.any(voxel_mm == 0):
        raise ValueError(
            f"Case {case}: {path.name} has voxels of {_sizes(voxel_mm)} mm and no sform, so its voxel size is unknown. "
            "Copy the header of the image it was made from."
        )
    if header["qform_code"] != UNKNOWN and not np.all(np.isfinite(_qform(header))):
        raise ValueError(
            f"Case {case}: {path.name} has a qform that is not a rotation and no sform, so its orientation is unknown. "
            "Copy the header of the image it was made from."
        )


def _qform(header: Nifti1Header) -> np.ndarray:
    """Affine of the qform; NaN when its quaternion is not a rotation."""
    try:
        return header.get_qform()
    except ValueError:
        return np.full((4, 4), np.nan)


def check_size(path: Path, case: str, voxels: int, told_bytes: int) -> None:
    """Check, before reading, that the voxels fit into memory and that the file size fits the header.

    Args:
        path: the file.
        case: name of the case.
        voxels: number of voxels that the header declares.
        told_bytes: uncompressed file size that the header declares.

    Raises:
        ValueError: naming the case.
    """
    has = path.stat().st_size
    most = has * MOST_DEFLATED if _is_gz(path) else has
    if voxels > MOST_VOXELS:
        raise ValueError(
            f"Case {case}: {path.name} has {voxels:,} voxels according to its header. Expected one CT of at most "
            f"{MOST_VOXELS:,}: check the header, or crop the volume."
        )
    if told_bytes > most:
        raise ValueError(
            f"Case {case}: {path.name} is truncated or not a NIfTI file: its header declares {told_bytes:,} bytes, the "
            f"file has {has:,}. Copy or export the file again."
        )
    if has > told_bytes + SPARE_BYTES:
        raise ValueError(
            f"Case {case}: {path.name} has {has:,} bytes, but its header declares {told_bytes:,}. Expected a header "
            "that fits the voxels: export the file again."
        )


def whole_image(path: Path, told_bytes: int) -> tuple[Any, tuple[str, ...]]:
    """Read the file once and to its end, so that gzip checks CRC and length.

    nibabel alone would stop after the last voxel, before the trailer with these check values.

    Args:
        path: NIfTI file.
        told_bytes: uncompressed file size that the header declares.

    Returns:
        A nibabel image, and notes on irregularities of the gzip data.

    Raises:
        Exception: gzip's error for truncated or altered data; a ValueError when the file decompresses to far more than
            its header declares.
    """
    if not _is_gz(path):
        return nibabel.load(path), ()
    with gzip.open(path) as stream:
        content = stream.read(told_bytes)
        notes = _read_to_end(stream, told_bytes)
    is_second = Nifti2Header.may_contain_header(content[: Nifti2Header.template_dtype.itemsize])
    return (Nifti2Image if is_second else Nifti1Image).from_bytes(content), notes


def _read_to_end(stream: gzip.GzipFile, told_bytes: int) -> tuple[str, ...]:
    try:
        rest = stream.read(SPARE_BYTES + 1)
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):
            raise
        return (FOLLOWED,)  # the trailer before these bytes was valid
    if len(rest) > SPARE_BYTES:
        raise ValueError(f"it decompresses to more than the {told_bytes:,} bytes that its header declares")
    return ()


def placed_image(array: np.ndarray, affine: np.ndarray) -> Nifti1Image:
    """A NIfTI image whose qform and sform agree, so that ITK, 3D Slicer and nibabel show it at the same position.

    Args:
        array: voxels.
        affine: (4, 4) voxel index to RAS mm.

    Returns:
        A nibabel image. For a slightly sheared affine, the qform is the nearest orthogonal one, as ITK requires.
    """
    image = Nifti1Image(array, affine)
    image.set_qform(affine, ALIGNED)
    image.header.set_xyzt_units("mm")
    return image


def orientation_notes(image: Any) -> tuple[str, ...]:
    """Notes on what makes the orientation of a NIfTI image uncertain.

    Args:
        image: nibabel image.

    Example:
        >>> image = Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
        >>> orientation_notes(image)
        ()
        >>> image.header["sform_code"] = 0  # the qform_code is 0 too
        >>> orientation_notes(image)[0][:50]
        'its header does not give the orientation (qform_co'
    """
    header = image.header
    codes = [int(header[name]) for name in ("qform_code", "sform_code")]
    if codes == [UNKNOWN, UNKNOWN]:
        return (NO_ORIENTATION,)
    if UNKNOWN in codes:
        return ()
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in (*image.shape, 1, 1)[:3]))]).T
    qform, sform = _qform(header), header.get_sform()
    if not np.all(np.isfinite(qform)):
        return (BROKEN_QFORM,)
    apart_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    voxel_mm = np.linalg.norm(sform[:3, :3], axis=0).max()
    return (TWO_ORIENTATIONS.format(apart_mm=apart_mm),) if apart_mm > voxel_mm else ()


def check_affine(path: Path, case: str, affine: np.ndarray) -> None:
    """Check that an affine gives voxel size and orientation, and that its axes are orthogonal.

    Args:
        path: the file.
        case: name of the case.
        affine: (4, 4) voxel index to RAS mm.

    Raises:
        ValueError: naming the case.
    """
    axes = affine[:3, :3]
    shown = ", ".join(str(np.round(row, 3).tolist()) for row in affine[:3])
    lengths = np.linalg.norm(axes, axis=0)
    if np.all(np.isfinite(affine)) and np.all(lengths > 0) and abs(np.linalg.det(axes / lengths)) > 1e-3:
        _check_right_angles(path, case, axes / lengths)
        return
    raise ValueError(
        f"Case {case}: {path.name} has a singular affine, so its voxel size or orientation is unknown: "
        f"{shown}. Copy the header of the image it was made from."
    )


def _check_right_angles(path: Path, case: str, directions: np.ndarray) -> None:
    """Check for shear, because programs that support only orthogonal axes would show outputs misplaced."""
    cosines = np.abs(directions.T @ directions - np.eye(3)).clip(max=1).max()
    degrees = float(np.rad2deg(np.arcsin(cosines)))
    if degrees > SHEAR_TOLERANCE_DEGREES:
        raise ValueError(
            f"Case {case}: the axes of {path.name} are sheared by {degrees:.1f} degrees, at most "
            f"{SHEAR_TOLERANCE_DEGREES:g} is allowed. Resample it to an orthogonal grid first (dcm2niix corrects "
            "gantry tilt) and give that file."
        )


def check_extent(path: Path, case: str, affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Check that lengths can be in mm; otherwise resampling to a grid in mm would exhaust the memory.

    Args:
        path: the file.
        case: name of the case.
        affine: (4, 4) voxel index to RAS mm, not singular.
        shape: shape of the voxel array.

    Raises:
        ValueError: naming the case.
    """
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)
    extent_mm = voxel_mm[: len(shape)] * shape[:3]
    if voxel_mm.min() >= LEAST_VOXEL_MM and extent_mm.max() <= MOST_EXTENT_MM:
        return
    raise ValueError(
        f"Case {case}: {path.name} has voxels of {_sizes(voxel_mm)} mm and is {_sizes(extent_mm)} mm large. "
        f"Expected {LEAST_VOXEL_MM:g} mm or more and {MOST_EXTENT_MM:g} mm or less: write the header in mm."
    )


def _sizes(lengths: np.ndarray) -> str:
    return " x ".join(f"{length:g}" for length in lengths)
