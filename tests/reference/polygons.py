"""Slow, obvious: is a point inside an odd number of polygons?"""

from collections.abc import Sequence


def is_inside(x: float, y: float, polygons: Sequence[Sequence[tuple[float, float]]]) -> bool:
    """Count the edges that a ray from the point to the right crosses."""
    crossings = 0
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                crossings += 1
    return crossings % 2 == 1
