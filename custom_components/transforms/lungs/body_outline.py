"""The patient's outline in a chest CT, without a table or cushion that encloses air."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

# Upper limits of the air around the body with foam and blankets, of aerated lung or any air, and of pure gas; lower
# limit of fat and denser tissue.
OUTSIDE_HU, LUNG_HU, GAS_HU, TISSUE_HU = -700.0, -400.0, -945.0, -250.0

# Half the minimum thickness of a trunk, as opposed to table plates: the first value that leaves this share of all
# tissue.
THICK_MM, LEAST_TRUNK = (10.0, 7.5, 5.0), 0.85

# Reach of the hull of thick tissue into neighbouring slices, whose chest wall may be thicker; maximum distance of lung
# outside that hull.
SLAB_MM, THIN_WALL_MM = 15.0, 25.0

DIRECTIONS_RAD = np.arange(48) * np.pi / 24

# Neighbours within a slice.
SLICE_CROSS = np.zeros((3, 3, 3), bool)
SLICE_CROSS[1, :, 1] = SLICE_CROSS[:, 1, 1] = True


def body_outline(hu: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Mask of the body with everything inside: lungs, trachea, stomach and bowel.

    The trunk is the largest thick piece of tissue; table plates are thin, even where they touch the back. Air belongs
    to the body if it is not connected to the border of its slice and lies mostly in the convex hull of the trunk. This
    excludes air in, on or under a table.

    Args:
        hu: CT in HU, shape (X, Y, Z), slices along z, voxels of 2 to 6 mm.
        spacing_mm: voxel size along x, y, z.

    Returns:
        bool, same shape; all True if there is no tissue.

    Example:
        >>> hu = np.full((60, 70, 20), -1000.0)
        >>> hu[10:50, 10:40], hu[16:28, 16:34], hu[32:44, 16:34] = 40.0, -850.0, -850.0  # trunk and lungs
        >>> hu[2:58, 40:66], hu[4:56, 42:64] = -100.0, -930.0  # the table that it lies on, with foam
        >>> body = body_outline(hu, (5.0, 5.0, 5.0))
        >>> bool(body[16:44, 16:34].all()), bool(body[:, 44:].any())
        (True, False)
    """
    enclosed = ~_outside_air(hu)
    tissue = (hu > TISSUE_HU) | (ndimage.uniform_filter(hu, 3) > TISSUE_HU)  # the filter reduces noise
    if not tissue.any():
        return np.ones(hu.shape, bool)
    trunk, slab_mm = _trunk(tissue, spacing_mm)
    inside = _hull(trunk, spacing_mm, slab_mm)
    air = (hu < LUNG_HU) & enclosed & _hull(trunk, spacing_mm, slab_mm, THIN_WALL_MM)
    air = _mostly(inside, _mostly(inside, air), SLICE_CROSS)
    pocket = ndimage.binary_dilation((hu < LUNG_HU) & ~air) & (hu < TISSUE_HU) & ~air  # with its blurred rim
    return _hull(trunk | air, spacing_mm, SLAB_MM) & enclosed & ~pocket


def _outside_air(hu: np.ndarray) -> np.ndarray:
    """Air connected to the border of its slice; one-voxel gaps, as in a thin chest wall, do not connect.

    For a circular field of view, its border counts. Lung that touches the border is not pure gas and is not included.
    """
    field = _field_of_view(hu)
    air = hu < OUTSIDE_HU
    wide = ndimage.binary_erosion(air | ~field, SLICE_CROSS, border_value=1) & field
    labels, count = ndimage.label(wide, SLICE_CROSS)
    border = field & ~ndimage.binary_erosion(field, SLICE_CROSS)
    voxels = np.bincount(labels[border], minlength=count + 1)
    outer = np.bincount(labels[border], weights=hu[border], minlength=count + 1) < GAS_HU * voxels
    outer[0] = False
    return (ndimage.binary_dilation(outer[labels], SLICE_CROSS) | ~field) & air


def _field_of_view(hu: np.ndarray) -> np.ndarray:
    """False in the constant area outside a circular field of view, and next to it."""
    x, y = (np.linspace(-1, 1, 2 * count + 1)[1::2] for count in hu.shape[:2])
    beyond = (hu == hu.min()) & (np.hypot(x[:, None], y) > 1)[..., None]
    return ~ndimage.binary_dilation(beyond, SLICE_CROSS)


def _trunk(tissue: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, float]:
    """The largest piece of thick tissue, and how far its hull extends along the body (fully in thin bodies).

    Tissue at the border of the image is assumed to continue beyond it. In a thin body, such as a child's, only
    shoulders and belly may be thicker than a plate.
    """
    trunk = _largest(tissue)
    for thick_mm in THICK_MM:
        core = _largest(_filtered(ndimage.minimum_filter1d, tissue, thick_mm, spacing_mm))
        if core.any():
            trunk = _filtered(ndimage.maximum_filter1d, core, thick_mm, spacing_mm)
        if core.any() and np.count_nonzero(trunk) >= LEAST_TRUNK * np.count_nonzero(tissue):
            return trunk, SLAB_MM
    return trunk, spacing_mm[2] * tissue.shape[2]


def _filtered(
    extreme: Callable[..., np.ndarray], mask: np.ndarray, reach_mm: float, spacing_mm: Sequence[float]
) -> np.ndarray:
    """Erosion or dilation by a box."""
    for axis, step in enumerate(spacing_mm):
        mask = extreme(mask, 2 * round(reach_mm / step) + 1, axis, mode="nearest")
    return mask


def _mostly(inside: np.ndarray, mask: np.ndarray, structure: np.ndarray | None = None) -> np.ndarray:
    """Components of a mask with more than half of their voxels inside."""
    labels, count = ndimage.label(mask, structure)
    share = 2 * np.bincount(labels[inside], minlength=count + 1) - np.bincount(labels.ravel(), minlength=count + 1)
    return (share > 0)[labels] & mask


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (labels == sizes.argmax()) & mask


def _hull(mask: np.ndarray, spacing_mm: Sequence[float], slab_mm: float, margin_mm: float = 1e-3) -> np.ndarray:
    """Convex hull in each slice, of the mask in a slab around the slice, with a margin.

    A polygon of ``DIRECTIONS_RAD``: its sides touch the outermost voxels of the mask.
    """
    x, y = (
        (np.arange(size) - (size - 1) / 2) * step for size, step in zip(mask.shape[:2], spacing_mm[:2], strict=True)
    )
    slab = 2 * int(slab_mm / spacing_mm[2]) + 1
    row = mask.any(axis=0)
    first, last = x[mask.argmax(axis=0)], x[::-1][mask[::-1].argmax(axis=0)]
    low, high = np.full(row.shape, -np.inf), np.full(row.shape, np.inf)
    for cosine, sine in zip(np.cos(DIRECTIONS_RAD), np.sin(DIRECTIONS_RAD), strict=True):
        reach = np.where(row, cosine * (last if cosine > 0 else first) + sine * y[:, None], -np.inf).max(axis=0)
        room = ndimage.maximum_filter1d(reach, slab, mode="nearest") - sine * y[:, None] + margin_mm
        if abs(cosine) < 1e-6:
            high[room < 0] = -np.inf
        elif cosine > 0:
            high = np.minimum(high, room / cosine)
        else:
            low = np.maximum(low, room / cosine)
    return (x[:, None, None] >= low) & (x[:, None, None] <= high)
