"""The paper's grid twice: point by point in world coordinates, and the literal chain of resample, zoom and pad."""

import itertools
import math

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Orientation, Resize, Spacing, SpatialPad

SUPERIOR_POSTERIOR_LEFT = ((2, 1), (1, -1), (0, -1))
"""World axis (RAS) and sign of the grid's axes z, y, x."""


def followed_axes(affine: np.ndarray) -> list[tuple[int, int]]:
    """For z, y, x of the grid the axis of the stored array that runs closest along it, and its direction."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(
            abs(directions[world, a]) for (world, _), a in zip(SUPERIOR_POSTERIOR_LEFT, axes, strict=True)
        ),
    )
    pairs = zip(SUPERIOR_POSTERIOR_LEFT, best, strict=True)
    return [(axis, 1 if sign * directions[world, axis] > 0 else -1) for (world, sign), axis in pairs]


def grid_points_mm(shape, affine, grid, spacing_mm, max_scale) -> np.ndarray:
    """World position (D, H, W, 3) of every point of the grid, walked from the scan's centre."""
    axes = followed_axes(affine)
    voxel_mm = [math.sqrt(sum(affine[row, axis] ** 2 for row in range(3))) for axis in range(3)]
    sizes = [shape[axis] * voxel_mm[axis] / step for (axis, _), step in zip(axes, spacing_mm, strict=True)]
    scale = min([max_scale, *(most / size for most, size in zip(grid, sizes, strict=True))])
    centre = affine[:3, :3] @ [(size - 1) / 2 for size in shape] + affine[:3, 3]
    points = np.empty((*grid, 3))
    for place in np.ndindex(*grid):
        points[place] = centre
        for (axis, sign), at, most, step in zip(axes, place, grid, spacing_mm, strict=True):
            direction = sign * affine[:3, axis] / voxel_mm[axis]
            points[place] += (at - (most - 1) / 2) * step / scale * direction
    return points


def trilinear(array: np.ndarray, index) -> float:
    """Value between the eight voxels around a point; at the border the edge value, far outside nan."""
    if not all(-0.5 - 1e-9 <= i <= size - 0.5 + 1e-9 for i, size in zip(index, array.shape, strict=True)):
        return math.nan
    total = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight, voxel = 1.0, []
        for i, up, size in zip(index, corner, array.shape, strict=True):
            low = math.floor(i)
            weight *= i - low if up else 1 - (i - low)
            voxel.append(min(max(low + up, 0), size - 1))
        total += weight * float(array[tuple(voxel)])
    return total


def nearest(array: np.ndarray, index) -> float:
    """Value of the nearest voxel, 0 outside. The caller avoids ties."""
    voxel = [round(i) for i in index]
    inside = all(0 <= i < size for i, size in zip(voxel, array.shape, strict=True))
    return float(array[tuple(voxel)]) if inside else 0.0


def paper_grid(image_hu, lung, infection, affine, grid, spacing_mm, max_scale, window_hu):
    """Image, lung mask and infection mask on the grid, each an array (D, H, W)."""
    points = grid_points_mm(image_hu.shape, affine, grid, spacing_mm, max_scale)
    inverse = np.linalg.inv(affine)
    out = np.zeros((3, *grid))
    for place in np.ndindex(*grid):
        index = inverse[:3, :3] @ points[place] + inverse[:3, 3]
        hu = trilinear(image_hu, index)
        grey = 0.0 if math.isnan(hu) else (min(max(hu, window_hu[0]), window_hu[1]) - window_hu[0])
        inside = nearest(lung, index)
        out[(0, *place)] = grey / (window_hu[1] - window_hu[0]) * inside
        out[(1, *place)], out[(2, *place)] = inside, nearest(infection, index)
    return out


def literal_chain(volume: MetaTensor, mode: str, grid, spacing_mm, scale: float) -> MetaTensor:
    """The paper's words with MONAI: resample to the spacing, scale all axes by one factor, pad symmetrically."""
    upright = Orientation("SPL")(volume)
    resampled = Spacing(spacing_mm, mode=mode, padding_mode="border", scale_extent=True)(upright)
    size = [max(1, round(count * scale)) for count in resampled.shape[1:]]
    small = Resize(size, mode="trilinear" if mode == "bilinear" else "nearest-exact")(resampled)
    return SpatialPad(grid)(small)
