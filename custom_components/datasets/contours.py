"""The contours of a DICOM RTSTRUCT as masks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Largest distance of a contour from its slice, as a fraction of the slice distance.
OFF_SLICE = 0.25


@dataclass(frozen=True)
class Contoured:
    """One region of interest.

    Args:
        name: letters of its name in lower case: ``lungl`` for ``Lung_L`` and ``Lung L``.
        frame: FrameOfReferenceUID of its points.
        contours: closed, planar; (N, 3) points in patient position (LPS, mm) each.
    """

    name: str
    frame: str
    contours: list[np.ndarray]


def read_structures(path: Path, case: str) -> dict[str, Contoured]:
    """Structures of an RTSTRUCT file by the letters of their names.

    Args:
        path: the file.
        case: for messages.

    Raises:
        ValueError: when it cannot be read as an RTSTRUCT.
    """
    from pydicom import dcmread

    try:
        header = dcmread(path)
        contours = {
            int(roi.ReferencedROINumber): [
                np.reshape(one.ContourData, (-1, 3)) for one in roi.get("ContourSequence", []) if one.get("ContourData")
            ]
            for roi in header.ROIContourSequence
        }
        found = [
            Contoured(_letters(roi.ROIName), str(roi.ReferencedFrameOfReferenceUID), contours[int(roi.ROINumber)])
            for roi in header.StructureSetROISequence
            if int(roi.ROINumber) in contours
        ]
    except Exception as error:  # pydicom raises many types of errors
        raise ValueError(
            f"Case {case}: the RTSTRUCT cannot be read: {type(error).__name__}. Download the file again."
        ) from error
    return {structure.name: structure for structure in found}


def contour_mask(contours: Sequence[np.ndarray], affine: np.ndarray, shape: Sequence[int], case: str) -> np.ndarray:
    """Voxels whose centre lies inside an odd number of contours of their slice: a contour within another is a hole.

    Args:
        contours: (N, 3) points in patient position (LPS, mm) each, closed, each within one slice.
        affine: (4, 4), voxel index to RAS mm.
        shape: shape of the volume, (X, Y, Z), slices along z.
        case: for messages.

    Returns:
        bool, shape (X, Y, Z). A contour that occurs twice counts once.

    Raises:
        ValueError: when a contour lies between the slices or outside the volume.

    Example:
        >>> square = np.array([[-0.5, -0.5, 4], [1.5, -0.5, 4], [1.5, 0.5, 4], [-0.5, 0.5, 4.0]])
        >>> contour_mask([square], np.diag([-1.0, -1, 4, 1]), (3, 2, 2), "one")[..., 1].astype(int).tolist()
        [[1, 0], [1, 0], [0, 0]]
    """
    mask = np.zeros(tuple(shape), bool)
    to_index = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    once = {np.asarray(points, float).tobytes(): np.asarray(points, float) for points in contours}
    for points in once.values():
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        k = _slice_of(index[:, 2], mask.shape[2], case)
        (x, y), inside = _inside(index[:, :2], mask.shape[:2])
        mask[x, y, k] ^= inside
    return mask


def _slice_of(heights: np.ndarray, slices: int, case: str) -> int:
    k = int(np.rint(heights.mean()))
    if np.abs(heights - k).max() > OFF_SLICE or not 0 <= k < slices:
        raise ValueError(
            f"Case {case}: a contour lies at slice {heights.min():.2f} to {heights.max():.2f} of {slices}. Expected "
            "contours in the slices of the CT: give the series that they were drawn on."
        )
    return k


def _inside(polygon: np.ndarray, shape: Sequence[int]) -> tuple[tuple[slice, ...], np.ndarray]:
    """Box around a polygon (N, 2) of indices x, y, and whether the voxel centres in it lie inside."""
    from matplotlib.path import Path as Polygon

    low = np.floor(polygon.min(axis=0)).astype(int).clip(0, shape)
    high = np.ceil(polygon.max(axis=0)).astype(int).clip(0, np.array(shape) - 1) + 1
    x, y = np.mgrid[low[0] : high[0], low[1] : high[1]]
    inside = Polygon(polygon).contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(x.shape)
    return (slice(low[0], high[0]), slice(low[1], high[1])), inside


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", str(name).lower())
