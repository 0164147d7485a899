from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components.files.report_files import write_csv
from custom_components.handlers.score_table import ScoreTable, listed_name
from custom_components.images.ct_reader import image_header
from custom_components.labels import LEFT, RIGHT
from custom_components.transforms.lungs.left_right import left_right_lungs
from custom_components.transforms.paper_grid import GRID, MAX_SCALE, SPACING_MM, paper_affine
from monai.engines import Workflow
from nibabel.affines import voxel_sizes

SLICE_TABLE = "slices.csv"
SIDES = {"left": LEFT, "right": RIGHT}
MAPS = ("lung", "infection", "attention")
# Columns after the case: the index of the slice from the head, and areas.
SLICE = "slice"
AREAS = tuple(f"{name}_{side}_cm2" for name in MAPS for side in SIDES)

# 1e-6 cm2: a soft mask that is 0 but for rounding has no area.
_DECIMALS = 6


class SliceTable(ScoreTable):
    """Ignite handler that writes what lungs, infection and attention are in each slice of each scan: ``slices.csv``.

    A row is one slice of the scan as stored, counted from the head (0). It has areas in cm2 of the left and of the
    right lung: of the lung, of the infection inside it, and of the attention, which is the soft mask T(A) of Eq. 2
    (Ouyang et al. 2020) summed over the lung; T(A) is about 1 where A > 0.4, and about 0 elsewhere. See
    :func:`areas_by_slice`.

    Reads from each case, on the network's grid, ``image`` (the lungs are where it is not 0), ``attention`` and, if
    present, ``infection``; the size of the scan is that of its file.

    Args:
        output_dir: folder of the file.
        cases: scans of the data set, with ``case_id`` and ``image``, the file.
        grid: as for :class:`~custom_components.PaperGridd`.
        spacing_mm: likewise.
        max_scale: likewise.
    """

    def __init__(
        self,
        output_dir: str | Path,
        cases: Sequence[Mapping[str, Any]],
        grid: Sequence[int] = GRID,
        spacing_mm: Sequence[float] = SPACING_MM,
        max_scale: float = MAX_SCALE,
    ) -> None:
        super().__init__(output_dir)
        self.files = {str(case["case_id"]): case["image"] for case in cases}
        self.grid, self.spacing_mm, self.max_scale = tuple(grid), tuple(spacing_mm), max_scale

    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Areas in each slice of a case, a list for each column."""
        name = listed_name(item)
        if item.get("attention") is None:
            raise ValueError(f"Case {name}: the network has no attention. Set slice_table to false.")
        lung = _volume(item["image"]) > 0
        infection = np.zeros_like(lung) if item.get("infection") is None else _volume(item["infection"]) != 0
        header = image_header(self.files[name])
        on_grid = paper_affine(header.shape, header.affine, self.grid, self.spacing_mm, self.max_scale)
        positions = slice_positions(header.shape, header.affine, on_grid)
        areas = areas_by_slice(lung, infection, _volume(item["attention"]), on_grid, positions)
        return {"case_id": name, **{key: values.round(_DECIMALS).tolist() for key, values in areas.items()}}

    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the table."""
        rows = [
            {"case_id": case["case_id"], SLICE: index, **dict(zip(AREAS, areas, strict=True))}
            for case in cases
            for index, areas in enumerate(zip(*(case[key] for key in AREAS), strict=True))
        ]
        write_csv(self.output_dir / SLICE_TABLE, rows, ("case_id", SLICE, *AREAS))


def slice_positions(shape: Sequence[int], affine: np.ndarray, on_grid: np.ndarray) -> np.ndarray:
    """Where each slice of a scan is along the first axis of its grid, in grid voxels, from the head.

    Args:
        shape: voxels of the scan as stored.
        affine: (4, 4), index of the scan to RAS mm.
        on_grid: (4, 4), index of the grid to RAS mm, as from ``paper_affine``: the axes of the scan, z to Superior.

    Returns:
        One number for each slice, descending.

    Example:
        >>> affine = np.diag([-1.0, -1.0, 2.0, 1.0])  # 5 slices of 2 mm, on a grid of 4 slices of 4 mm
        >>> on_grid = paper_affine((4, 4, 5), affine, (4, 4, 4), (4.0, 1.0, 1.0), 1.0)
        >>> slice_positions((4, 4, 5), affine, on_grid).tolist()
        [2.5, 2.0, 1.5, 1.0, 0.5]
    """
    index = np.linalg.inv(on_grid) @ np.asarray(affine, dtype=np.float64)
    axis = int(np.argmax(np.abs(index[0, :3])))
    found = index[0, axis] * np.arange(shape[axis]) + index[0, 3]
    return np.sort(found)[::-1]


def areas_by_slice(
    lung: np.ndarray, infection: np.ndarray, attention: np.ndarray, on_grid: np.ndarray, positions: np.ndarray
) -> dict[str, np.ndarray]:
    """Area of lung, infection and attention in each slice, inside the left and the right lung.

    The sum over each slice of the grid is interpolated linearly to the slices of the scan; beyond the first and last
    slice of the grid it is that of this slice. If the lungs cannot be separated
    (:func:`~custom_components.transforms.lungs.left_right.left_right_lungs`), one has all, and the other nothing.

    Args:
        lung: mask of both lungs, (D, H, W), the axes z to Superior, y to Posterior, x to Left.
        infection: infection mask, the same shape.
        attention: soft mask T(A) in [0, 1], the same shape.
        on_grid: (4, 4), index of the grid to RAS mm.
        positions: of the slices of the scan, as from :func:`slice_positions`.

    Returns:
        For each name in ``AREAS`` the areas in cm2, one for each slice of the scan.

    Raises:
        ValueError: when the arrays are not on one grid.

    Example:
        >>> lung = np.ones((3, 4, 4), bool)
        >>> areas = areas_by_slice(lung, lung, 0.5 * lung, np.eye(4)[[2, 1, 0, 3]] * 10, np.array([2.4, 0.5]))
        >>> areas["lung_right_cm2"] + areas["lung_left_cm2"], areas["attention_left_cm2"] + areas["attention_right_cm2"]
        (array([16., 16.]), array([8., 8.]))
    """
    if not lung.shape == infection.shape == attention.shape:
        raise ValueError(
            f"Expected lung, infection and attention on one grid, got {lung.shape}, {infection.shape} and "
            f"{attention.shape}. Resample the masks with the image."
        )
    sides, z = left_right_lungs(lung, on_grid), np.arange(len(lung))
    pixel_cm2 = float(np.prod(voxel_sizes(on_grid)[1:])) / 100
    areas = {}
    for name, values in zip(MAPS, (lung, infection, attention), strict=True):
        for side, label in SIDES.items():
            sums = np.where(sides == label, values, 0).sum(axis=(1, 2), dtype=np.float64) * pixel_cm2
            areas[f"{name}_{side}_cm2"] = np.interp(positions, z, sums)
    return areas


def _volume(tensor: Any) -> np.ndarray:
    array: np.ndarray = torch.as_tensor(tensor).detach().float().cpu().numpy()[0]
    return array
