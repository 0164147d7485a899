"""What a NIfTI header must hold before its voxels are read: sizes that fit the file and memory, a place in mm."""

from io import BytesIO
from pathlib import Path

import numpy as np
from nibabel import Nifti1Header, Nifti2Header
from nibabel.openers import ImageOpener

# More than any CT has: 4,096 slices of 512 x 512. As float32 they take 4 GiB.
MOST_VOXELS = 2**30
# Times that gzip makes a file smaller, at most.
MOST_DEFLATED = 1032
# What may follow the voxels of a file, and what may lie between header and voxels.
SPARE_BYTES, START_BYTES = 2**20, 2**24
# No voxel of a CT is finer, no scan is longer: beyond, lengths are in metres or micrometres.
LEAST_VOXEL_MM, MOST_EXTENT_MM = 0.05, 5000.0


def check_start(path: Path) -> None:
    """Parse the header from the first bytes: of a file, nibabel would inflate an extension of any size.

    Args:
        path: NIfTI file.

    Raises:
        Exception: whatever nibabel raises over a header that it cannot parse.
    """
    with ImageOpener(str(path)) as file:
        start = file.read(Nifti2Header.template_dtype.itemsize)
        has_extensions = start[Nifti1Header.template_dtype.itemsize :][:1] not in (b"", b"\0")
        start += file.read(START_BYTES) if has_extensions else b""
    if len(start) < Nifti1Header.template_dtype.itemsize:
        raise ValueError(f"it has {len(start)} bytes, fewer than a header")
    is_second = Nifti2Header.may_contain_header(start)
    (Nifti2Header if is_second else Nifti1Header).from_fileobj(BytesIO(start))


def check_size(path: Path, case: str, voxels: int, told_bytes: int) -> None:
    """Refuse, before anything is read, voxels that memory cannot hold and a file that cannot be what it tells.

    Args:
        path: the file.
        case: name of the case.
        voxels: their number, by the header.
        told_bytes: length of the file once unpacked, by the header.

    Raises:
        ValueError: naming the case.
    """
    has = path.stat().st_size
    most = has * MOST_DEFLATED if path.name.lower().endswith(".gz") else has
    if voxels > MOST_VOXELS:
        raise ValueError(
            f"Case {case}: {path.name} has {voxels:,} voxels by its header. Expected one CT, at most {MOST_VOXELS:,}: "
            "check the header, or cut the volume."
        )
    if told_bytes > most:
        raise ValueError(
            f"Case {case}: {path.name} is truncated or not a NIfTI file: its header tells of {told_bytes:,} bytes, and "
            f"{has:,} are there. Copy or export the file again."
        )
    if has > told_bytes + SPARE_BYTES:
        raise ValueError(
            f"Case {case}: {path.name} has {has:,} bytes, its header tells of {told_bytes:,}. Expected a header that "
            "fits the voxels: export the file again."
        )


def check_affine(path: Path, case: str, affine: np.ndarray) -> None:
    """Refuse an affine that does not tell voxel size and orientation.

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
        return
    raise ValueError(
        f"Case {case}: {path.name} has a singular affine, so its voxel size or orientation is unknown: "
        f"{shown}. Copy the header of the image it was made from."
    )


def check_extent(path: Path, case: str, affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse a volume whose lengths cannot be in mm; on a grid in mm it would need more memory than there is.

    Args:
        path: the file.
        case: name of the case.
        affine: (4, 4) voxel index to RAS mm, not singular.
        shape: of the voxel array.

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
