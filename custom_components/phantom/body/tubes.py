from dataclasses import dataclass

import numpy as np
from custom_components.phantom.body.grid import Grid, Points
from custom_components.phantom.body.shapes import coverage


@dataclass(frozen=True)
class Tubes:
    """N straight pieces of vessels or airways.

    Args:
        start_mm: (N, 3) first ends.
        stop_mm: (N, 3) second ends.
        radius_mm: (N,) radii.
    """

    start_mm: np.ndarray
    stop_mm: np.ndarray
    radius_mm: np.ndarray

    def __len__(self) -> int:
        return len(self.radius_mm)

    def thickened(self, wall_mm: float | np.ndarray) -> "Tubes":
        """The same tubes with ``wall_mm`` added to their radius."""
        return Tubes(self.start_mm, self.stop_mm, self.radius_mm + wall_mm)

    @staticmethod
    def joined(parts: "list[Tubes]") -> "Tubes":
        """All tubes of ``parts`` in one."""
        return Tubes(
            np.concatenate([part.start_mm for part in parts]),
            np.concatenate([part.stop_mm for part in parts]),
            np.concatenate([part.radius_mm for part in parts]),
        )


def tube_coverage(grid: Grid, tubes: Tubes) -> np.ndarray:
    """Fraction in [0, 1] of each voxel that is inside the tubes, float32 (X, Y, Z); above 0 also for thin tubes."""
    total = np.zeros(grid.shape, np.float32)
    reach = tubes.radius_mm[:, None] + np.array(grid.spacing_mm)
    low = _first_index(grid, np.minimum(tubes.start_mm, tubes.stop_mm) - reach)
    high = _first_index(grid, np.maximum(tubes.start_mm, tubes.stop_mm) + reach)
    for index in np.flatnonzero((high > low).all(axis=1)).tolist():
        box = tuple(slice(first, last) for first, last in zip(low[index], high[index], strict=True))
        np.maximum(total[box], _one_tube(grid, box, tubes, index), out=total[box])
    return total


def _first_index(grid: Grid, position_mm: np.ndarray) -> np.ndarray:
    """Index of the first voxel at or beyond each position, clipped to the grid."""
    origin = np.array([axis.ravel()[0] for axis in grid.points])
    index = np.ceil((position_mm - origin) / np.array(grid.spacing_mm))
    return np.clip(index, 0, grid.shape).astype(int)


def _one_tube(grid: Grid, box: tuple[slice, ...], tubes: Tubes, index: int) -> np.ndarray:
    """Coverage of the voxels of ``box``; a tube is visible in each slice whose thickness it crosses."""
    x, y, z = grid.points
    at = Points(x[box[0]], y[:, box[1]], z[:, :, box[2]])
    start, radius = tubes.start_mm[index].astype(np.float32), tubes.radius_mm[index]
    axis = (tubes.stop_mm[index] - tubes.start_mm[index]).astype(np.float32)
    dx, dy, dz = at.x - start[0], at.y - start[1], at.z - start[2]
    along = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / max(float(axis @ axis), 1e-6), 0.0, 1.0)
    through = np.maximum(np.abs(dz - along * axis[2]) - grid.spacing_mm[2] / 2, 0.0)
    distance = np.sqrt((dx - along * axis[0]) ** 2 + (dy - along * axis[1]) ** 2 + through**2)
    lying = 1.0 - abs(float(axis[2])) / max(float(np.linalg.norm(axis)), 1e-6)
    filled = min(1.0, (1.0 - lying) + lying * 2 * radius / grid.spacing_mm[2]) * min(1.0, 2 * radius / grid.edge_mm)
    return filled * coverage(np.float32(radius) - distance, grid.edge_mm)
