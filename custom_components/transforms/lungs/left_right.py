import numpy as np
from custom_components.labels import LEFT, RIGHT
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage

# Approximate voxel size at which the lungs are separated.
WORKING_MM = 4.0
# Erosion depths, tried in order until two lungs remain.
DEPTHS_MM = (0.0, 2.0, 3.5, 5.0, 7.0, 9.0, 12.0, 15.0)
# Smallest volume ratio of two lungs, and smallest distance of their centres from right to left.
LEAST_SHARE, LEAST_APART_MM = 0.1, 40.0


def left_right_lungs(lung: np.ndarray, affine: np.ndarray, body: np.ndarray | None = None) -> np.ndarray:
    """Separate a lung mask into left and right lung.

    Touching lungs are eroded until two pieces remain; then both grow back until they meet. A mask of one lung gets one
    label.

    Args:
        lung: mask of both lungs, nonzero inside, shape (X, Y, Z), any orientation.
        affine: (4, 4), voxel index to RAS mm.
        body: mask of the body, same shape, which decides the side of a single lung; default: the middle of the array.

    Returns:
        0 background, 1 left, 2 right lung, uint8, same shape; nonzero exactly inside the mask.

    Raises:
        ValueError: when the arguments are not a volume and its affine.

    Example:
        >>> lung = np.zeros((60, 30, 20))
        >>> lung[5:25, 5:25, 2:18] = lung[35:55, 5:25, 2:18] = 1
        >>> sides = left_right_lungs(lung, np.diag([-4.0, -4.0, 4.0, 1.0]))  # the first axis runs to the left
        >>> sides[10, 10, 10].item(), sides[40, 10, 10].item()
        (2, 1)
    """
    if lung.ndim != 3 or np.shape(affine) != (4, 4) or (body is not None and body.shape != lung.shape):
        raise ValueError(
            "Expected a lung mask (X, Y, Z) with its 4 x 4 affine, and a body mask of the same shape, got "
            f"{lung.shape}, {np.shape(affine)} and {None if body is None else body.shape}. Use arrays of the same scan."
        )
    mask = np.asarray(lung) != 0
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    there = ornt_transform(io_orientation(affine), axcodes2ornt(("L", "P", "S")))
    back = ornt_transform(axcodes2ornt(("L", "P", "S")), io_orientation(affine))
    spacing_mm = voxel_sizes(affine)[np.argsort(there[:, 0])]
    upright = apply_orientation(mask, there)
    trunk = None if body is None else apply_orientation(np.asarray(body) != 0, there)
    return apply_orientation(_sides(upright, spacing_mm, trunk) * upright, back).astype(np.uint8)


def _sides(mask: np.ndarray, spacing_mm: np.ndarray, body: np.ndarray | None) -> np.ndarray:
    """Side of every voxel, decided in blocks of the working grid; x to Left."""
    steps = np.maximum(1, np.rint(WORKING_MM / spacing_mm)).astype(int)
    thin = tuple(slice(step // 2, None, step) for step in steps)
    coarse = mask[thin]
    seeds = _two_lungs(coarse, spacing_mm * steps)
    if seeds is None:
        trunk = mask if body is None else body
        middle = (mask.shape[0] - 1) / 2 if body is None or not body.any() else _centre(trunk)
        return np.full((1, 1, 1), LEFT if _centre(mask) > middle else RIGHT, np.uint8)
    sides = _grown(coarse, seeds, spacing_mm * steps)
    index = [
        np.minimum(np.arange(size) // step, sides.shape[axis] - 1)
        for axis, (size, step) in enumerate(zip(mask.shape, steps, strict=True))
    ]
    return sides[np.ix_(*index)]


def _grown(mask: np.ndarray, seeds: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Side of each voxel: of the seed that reaches it first inside the mask, of the nearest mask voxel outside."""
    sides = seeds.copy()
    while True:
        free = mask & (sides == 0)
        left, right = (ndimage.binary_dilation(sides == side) & free for side in (LEFT, RIGHT))
        if not (left | right).any():
            break
        sides[right] = RIGHT
        sides[left] = LEFT
    nearest = ndimage.distance_transform_edt(
        sides == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    return sides[tuple(nearest)]


def _two_lungs(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray | None:
    """Cores of the left and right lung as labels, x to Left; None if there is only one lung."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    for least_mm in DEPTHS_MM:
        labels, count = ndimage.label(depth > least_mm)
        sizes = np.bincount(labels.ravel(), minlength=3)[1:]
        first, second = np.argsort(-sizes, kind="stable")[:2] + 1
        if count < 2 or sizes[second - 1] < LEAST_SHARE * sizes[first - 1]:
            continue
        centres = {value: _centre(labels == value) * spacing_mm[0] for value in (first, second)}
        right, left = sorted(centres, key=lambda value: centres[value])
        if centres[left] - centres[right] >= LEAST_APART_MM:
            return ((labels == left) * LEFT + (labels == right) * RIGHT).astype(np.uint8)
    return None


def _centre(mask: np.ndarray) -> float:
    """Mean index along x of nonzero voxels."""
    profile = np.count_nonzero(mask, axis=(1, 2))
    return float(profile @ np.arange(len(profile)) / profile.sum())
