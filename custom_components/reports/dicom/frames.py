"""Convert a volume to the frames of a DICOM object, one per source image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Tolerance for NIfTI affines in float32 and for rounded positions of some scanners.
AXIS_TOLERANCE = 0.01


def label_frames(label: np.ndarray, affine: np.ndarray, images: Sequence[Dataset]) -> np.ndarray:
    """Reorder a label map of a CT series to the order of its images.

    Args:
        label: label map (X, Y, Z) on the grid of the series: x along its rows, y along its columns, z along the normal.
        affine: (4, 4) voxel index to RAS mm.
        images: DICOM headers of the series, in any order, each slice once.

    Returns:
        (images, Rows, Columns), uint8: frame i belongs to image i.

    Raises:
        ValueError: when the label map is not on the grid of the images.
    """
    slices = image_slices(label.shape, affine, images)
    return np.stack([label[:, :, index].T for index in slices]).astype(np.uint8)


def image_slices(shape: Sequence[int], affine: np.ndarray, images: Sequence[Dataset]) -> list[int]:
    """Index along z of each image in a volume of its CT series.

    Args:
        shape: shape of the volume (X, Y, Z): x along the images' rows, y along their columns, z along the normal.
        affine: (4, 4) voxel index to RAS mm.
        images: DICOM headers of the series, in any order, each slice once.

    Returns:
        One index per image.

    Raises:
        ValueError: when the volume is not on the grid of the images.
    """
    grid = (int(images[0].Columns), int(images[0].Rows), len(images))
    if tuple(shape) != grid:
        raise ValueError(f"The label map has shape {tuple(shape)}, expected {grid} (columns, rows, images).")
    to_index = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    for image in images:
        check_axes(to_index[:3, :3], image)
    slices = [round(float((to_index @ [*map(float, image.ImagePositionPatient), 1.0])[2])) for image in images]
    if sorted(slices) != list(range(len(images))):
        raise ValueError(
            f"The images do not match the {len(images)} slices of the label map one to one. "
            "Give a series with evenly spaced slices, each of them once."
        )
    return slices


def check_axes(to_index: np.ndarray, image: Dataset) -> None:
    """Check that the label map's x and y axes match the rows and columns of an image.

    Args:
        to_index: (3, 3) LPS mm to voxel steps of the label map.
        image: DICOM header.

    Raises:
        ValueError: when one pixel step of the image is not one voxel step of the label map.
    """
    along_row, along_column = np.asarray(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows_mm, between_columns_mm = (float(value) for value in image.PixelSpacing)
    steps = to_index @ np.stack([along_row * between_columns_mm, along_column * between_rows_mm], axis=1)
    if not np.allclose(steps, np.eye(3)[:, :2], rtol=0, atol=AXIS_TOLERANCE):
        raise ValueError(
            f"Image {image.SOPInstanceUID}: one pixel along row and column is {np.round(steps.T, 3).tolist()} voxels "
            "of the label map, expected [[1, 0, 0], [0, 1, 0]]. The bundle must write its result on the CT's own grid."
        )
