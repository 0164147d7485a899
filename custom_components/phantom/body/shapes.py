"""Solids as signed distances in mm: positive inside, 0 on the surface, negative outside."""

from collections.abc import Sequence

import numpy as np
from custom_components.phantom.body.grid import Points

Extent = float | np.ndarray


def ellipsoid(points: Points, centre_mm: Sequence[Extent], semi_mm: Sequence[Extent], power: float = 2.0) -> np.ndarray:
    """Signed distance, measured along the ray from the centre, to a (super)ellipsoid or elliptic cylinder.

    Args:
        points: positions in mm.
        centre_mm: centre along x, y and, for an ellipsoid, z.
        semi_mm: semi-axes along the same directions; two of them make a cylinder along z.
        power: 2 is an ellipse; with larger values the shape approaches a box.

    Returns:
        Distance in mm, positive inside.

    Example:
        >>> at = Points(np.array([0.0, 4.0, 5.0]), np.zeros(3), np.zeros(3))
        >>> ellipsoid(at, (0, 0), (3.0, 2.0)).round(1).tolist()
        [2.0, -1.0, -2.0]
    """
    offsets = [points[axis] - centre for axis, centre in enumerate(centre_mm)]
    scaled = sum(np.abs(offset / semi) ** power for offset, semi in zip(offsets, semi_mm, strict=True))
    radius = np.sqrt(sum(offset * offset for offset in offsets))
    smallest = np.minimum.reduce(np.broadcast_arrays(*semi_mm))
    tiny = 1e-3
    return (radius + tiny) / (scaled ** (1.0 / power) + tiny / smallest) - radius


def smooth_union(first: np.ndarray, second: np.ndarray, fillet_mm: float) -> np.ndarray:
    """Union of two solids (signed distances in mm) with a rounded concave edge of size ``fillet_mm``.

    The result is never below the maximum of both, which it approaches as ``fillet_mm`` approaches 0.
    """
    overlap = np.maximum(fillet_mm - np.abs(first - second), 0.0)
    return np.maximum(first, second) + overlap * overlap / (4 * fillet_mm)


def smooth_intersection(first: np.ndarray, second: np.ndarray, fillet_mm: float) -> np.ndarray:
    """Intersection of two solids with rounded convex edges; see :func:`smooth_union`."""
    return -smooth_union(-first, -second, fillet_mm)


def coverage(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Fraction in [0, 1] of a voxel of width ``edge_mm`` that is inside a solid: the partial-volume effect.

    Example:
        >>> coverage(np.array([-2.0, 0.0, 2.0]), edge_mm=1.0).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.clip(distance_mm / edge_mm + 0.5, 0.0, 1.0)


def paint(image_hu: np.ndarray, value_hu: Extent, cover: np.ndarray) -> None:
    """Replace the fraction ``cover`` of each voxel of ``image_hu``, in place, by ``value_hu``."""
    image_hu += cover * (value_hu - image_hu)
