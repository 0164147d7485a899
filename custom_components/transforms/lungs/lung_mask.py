from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from custom_components.transforms.lungs.body_outline import GAS_HU, LUNG_HU, OUTSIDE_HU, SLICE_CROSS, body_outline
from scipy import ndimage

# Volume of both lungs in a scan of at least this length; for a shorter one, the lower limit is proportionally smaller.
PLAUSIBLE_LITRES, WHOLE_MM = (0.5, 12.0), 100.0
# Approximate voxel size of the working grid.
WORKING_MM = 2.5

# HU at the lung's border, where readers draw it; lower limit of ribs; maximum distance of the border from the mask of
# the working grid.
BORDER_HU, BONE_HU, BORDER_MM = -200.0, 160.0, 2.8

# Width of the wall around gas that is never lung; distance from gas within which air is removed, to separate it from
# lung.
WALL_MM, CUT_MM = 3.0, 5.1

# Bronchi and the rim of gas: air thinner than twice THIN_MM, connected to gas over at most BRANCH_MM. They start at
# large gas (trachea, stomach) and gas within NEAR_MM of it.
THIN_MM, BRANCH_MM, NEAR_MM = 5.0, 30.0, 40.0

# Minimum median depth of lung below the skin (folds of skin are less deep); radius of the closing of each lung.
SKIN_MM, CLOSING_MM = 18.0, 13.0

SPECK_ML, GAS_ML, LARGE_ML, LEAST_LUNG_ML, HOLE_MM2 = 3.0, (0.2, 1500.0), 5.0, 30.0, 700.0
SEPARATING_MM = (0.0, 2.6, 4.0, 6.0, 8.0, 10.0, 13.0)

# Rays from the centre of a lung: angle from lateral (0) to posterior (90) and beyond, and distance.
RAY_DEG, RAY_MM = np.arange(-30.0, 112.0, 2.0), np.arange(0.0, 200.0, 2.0)

RIB_WINDOW_DEG, RIB_WINDOW_MM, PLEURA_MM, LEAST_RIM_MM, LEAST_LUNG_MM = 10.0, 26.0, 2.0, 5.0, 10.0


def lung_mask(image_hu: np.ndarray, spacing_mm: Sequence[float], case: str = "unknown") -> np.ndarray:
    """Find both lungs of a chest CT without a model.

    Air inside the body outline (:func:`~custom_components.transforms.lungs.body_outline.body_outline`) is divided
    into lung and other gas: trachea, main bronchi, oesophagus, stomach and bowel contain pure gas with little lung
    around it, and continue in thin branches. Each lung is then closed over vessels and patches, and extended
    through dense tissue to the ribs at the side and the back, where consolidation hides it. Thresholds miss
    consolidation without aerated lung in front of it, and a lung without any air. Pleural effusion looks the same as
    consolidation and is mostly included.

    Args:
        image_hu: CT in HU, shape (X, Y, Z), x across the patient (either way), y to Posterior, z to Superior.
        spacing_mm: voxel size along x, y, z.
        case: name of the case, for messages.

    Returns:
        1 inside either lung, including intrapulmonary vessels and bronchi; uint8, shape (X, Y, Z).

    Raises:
        ValueError: when the image is not a volume, or the lungs have less than 0.5 litres (for scans shorter than 100
            mm: in proportion) or more than 12: not a chest, or not HU.

    Example:
        >>> from custom_components.phantom import make_volume
        >>> phantom = make_volume(seed=1, shape=(100, 84, 50), spacing_mm=(4.0, 4.2, 6.0), lesions_ml={})
        >>> mask = lung_mask(phantom.image_hu, phantom.spacing_mm)
        >>> dice = 2 * (mask & phantom.lung).sum() / (mask.sum() + phantom.lung.sum())
        >>> bool(dice > 0.95)
        True
    """
    _check(image_hu, spacing_mm, case)
    scan = _Scan.coarse(image_hu, spacing_mm)
    gas = _with_branches(scan, _foreign_gas(scan))
    aerated = _aerated_lung(scan, gas)
    mask = np.zeros_like(aerated)
    if aerated.any():
        box = _box(aerated, 2 * CLOSING_MM, scan.spacing_mm)
        mask[box] = _completed(scan.crop(box), aerated[box], gas[box])
    native = _with_border(mask, gas, scan, image_hu)
    _check_plausible(native, image_hu, spacing_mm, case)
    return native.astype(np.uint8)


@dataclass(frozen=True)
class _Scan:
    """A CT on the working grid.

    Args:
        hu: shape (X, Y, Z).
        inside: the body with everything inside; bool, same shape.
        spacing_mm: voxel size along x, y, z.
    """

    hu: np.ndarray
    inside: np.ndarray
    spacing_mm: tuple[float, ...]

    @classmethod
    def coarse(cls, image_hu: np.ndarray, spacing_mm: Sequence[float]) -> "_Scan":
        """Average whole voxels to about ``WORKING_MM``; coarser axes are not changed."""
        fields = [count * step for count, step in zip(image_hu.shape, spacing_mm, strict=True)]
        shape = [
            min(count, max(1, round(field / WORKING_MM))) for count, field in zip(image_hu.shape, fields, strict=True)
        ]
        hu = _resized(np.clip(image_hu, -1024.0, 1000.0), shape, "area")
        spacing = tuple(field / count for field, count in zip(fields, shape, strict=True))
        return cls(hu, body_outline(hu, spacing), spacing)

    def crop(self, box: tuple[slice, ...]) -> "_Scan":
        return _Scan(self.hu[box], self.inside[box], self.spacing_mm)

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000.0


def _resized(image: np.ndarray, shape: Sequence[int], mode: str) -> np.ndarray:
    """Resample between grids that share their outer borders."""
    tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    return torch.nn.functional.interpolate(tensor, size=tuple(shape), mode=mode)[0, 0].numpy()


def _foreign_gas(scan: _Scan) -> np.ndarray:
    """Lumen of trachea, bronchi, oesophagus, stomach and bowel: pure gas with lung in less than half of its shell.

    A cyst or emphysema is also pure gas, but has lung around it.
    """
    gas = (scan.hu < GAS_HU) & scan.inside
    lung = (scan.hu < LUNG_HU) & ~gas
    labels, count = ndimage.label(gas)
    volume_ml = np.bincount(labels.ravel(), minlength=count + 1) * scan.voxel_ml
    foreign = np.zeros(count + 1, bool)
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if not GAS_ML[0] <= volume_ml[value] <= GAS_ML[1]:
            continue
        around = _widened(box, WALL_MM + 5.0, scan.spacing_mm)
        distance = ndimage.distance_transform_edt(labels[around] != value, sampling=scan.spacing_mm)
        shell = (distance > WALL_MM) & (distance <= WALL_MM + 5.0)
        foreign[value] = lung[around][shell].mean() < 0.5 if shell.any() else True
    return foreign[labels]


def _with_branches(scan: _Scan, gas: np.ndarray) -> np.ndarray:
    """Gas with bronchi that are too narrow to be pure gas, and with its blurred rim.

    Both start only at large gas and gas near it: small gas elsewhere may be a bronchus in consolidated lung.
    """
    air = (scan.hu < LUNG_HU) & scan.inside & ~gas
    lung = _larger(ndimage.distance_transform_edt(air, sampling=scan.spacing_mm) > THIN_MM, LEAST_LUNG_ML, scan)
    thin = air & (scan.hu < OUTSIDE_HU) & ~_dilated(lung, THIN_MM + 1.5, scan.spacing_mm)
    start = gas & _dilated(_larger(gas, LARGE_ML, scan), NEAR_MM, scan.spacing_mm)
    steps = max(1, int(BRANCH_MM / min(scan.spacing_mm)))
    return gas | ndimage.binary_dilation(start, iterations=steps, mask=gas | thin)


def _larger(mask: np.ndarray, least_ml: float, scan: _Scan) -> np.ndarray:
    """Components of at least this volume."""
    labels, _ = ndimage.label(mask)
    return (np.bincount(labels.ravel()) * scan.voxel_ml >= least_ml)[labels] & mask


def _aerated_lung(scan: _Scan, gas: np.ndarray) -> np.ndarray:
    """Air inside the body that is not other gas, not in folds of skin or blanket, and not below or above the lungs."""
    air = (scan.hu < LUNG_HU) & scan.inside & ~_dilated(gas, CUT_MM, scan.spacing_mm)
    depth = ndimage.distance_transform_edt(np.pad(scan.inside, ((1, 1), (1, 1), (0, 0))), sampling=scan.spacing_mm)
    depth = depth[1:-1, 1:-1]
    labels, count = ndimage.label(air)
    lung = np.zeros(count + 1, bool)
    lowest, highest = -np.inf, np.inf
    for value, box in _from_the_largest(labels, SPECK_ML / scan.voxel_ml):
        part = labels[box] == value
        centre = box[2].start + ndimage.center_of_mass(part)[2]
        if not lowest <= centre <= highest or np.median(depth[box][part]) < SKIN_MM:
            continue
        if np.median(scan.hu[box][part]) < GAS_HU:
            continue
        if not lung.any():
            lowest, highest = 0.75 * box[2].start + 0.25 * box[2].stop, box[2].stop
        lung[value] = True
    return lung[labels]


def _from_the_largest(labels: np.ndarray, least_voxels: float) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Values and boxes of the components of at least this size, largest first."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    boxes = ndimage.find_objects(labels)
    for value in np.argsort(-sizes, kind="stable").tolist():
        if sizes[value] == 0 or sizes[value] < least_voxels:
            return
        yield value, boxes[value - 1]


def _completed(scan: _Scan, aerated: np.ndarray, gas: np.ndarray) -> np.ndarray:
    """Both lungs including dense tissue inside."""
    wall = _dilated(gas, WALL_MM, scan.spacing_mm)
    total = np.zeros_like(aerated)
    for lung in _right_and_left(scan, aerated):
        closed = _closed(lung, scan.spacing_mm)
        closed = _closed(closed | _dense_rim(scan, closed), scan.spacing_mm)
        total |= _filled(closed & ~wall & scan.inside, scan.spacing_mm)
    labels, count = ndimage.label(total)
    kept = np.zeros(count + 1, bool)
    kept[[value for value, _ in _from_the_largest(labels, SPECK_ML / scan.voxel_ml)]] = True
    return kept[labels]


def _with_border(mask: np.ndarray, gas: np.ndarray, scan: _Scan, image_hu: np.ndarray) -> np.ndarray:
    """The mask on the image's own voxels, with border voxels that are not tissue."""
    near = _dilated(mask, BORDER_MM, scan.spacing_mm) & scan.inside & ~_dilated(gas, WALL_MM, scan.spacing_mm)
    lung, border = (_resized(one.astype(np.float32), image_hu.shape, "trilinear") > 0.5 for one in (mask, near))
    return lung | (border & (image_hu < BORDER_HU))


def _right_and_left(scan: _Scan, aerated: np.ndarray) -> list[np.ndarray]:
    """The two lungs, separated by erosion; one mask if there is only one lung."""
    depth = ndimage.distance_transform_edt(aerated, sampling=scan.spacing_mm)
    for radius in SEPARATING_MM:
        labels, _ = ndimage.label(depth > radius)
        largest = [value for value, _ in _from_the_largest(labels, 1)][:2]
        sizes = np.bincount(labels.ravel())
        if len(largest) == 2 and sizes[largest[1]] > 0.2 * sizes[largest[0]]:
            seeds = np.where(np.isin(labels, largest), labels, 0)
            nearest = ndimage.distance_transform_edt(
                seeds == 0, sampling=scan.spacing_mm, return_distances=False, return_indices=True
            )
            side = seeds[tuple(nearest)]
            return [aerated & (side == value) for value in largest]
    return [aerated]


def _dense_rim(scan: _Scan, lung: np.ndarray) -> np.ndarray:
    """Tissue between the lung and the ribs, at the side and the back, where it is thicker than pleura.

    On rays from the centre of the lung: from the last lung voxel to the first rib in the neighbourhood.
    """
    rays = _Rays.of(lung, scan)
    on_lung = rays.sample(lung)
    distance = RAY_MM[None, :, None]
    end_mm = np.where(on_lung, distance, 0.0).max(axis=1)
    rib_mm = np.where(
        rays.sample((scan.hu > BONE_HU) & scan.inside) & (distance > end_mm[:, None]), distance, np.inf
    ).min(axis=1)
    window = (int(RIB_WINDOW_DEG / 2), max(1, round(RIB_WINDOW_MM / scan.spacing_mm[2]) | 1))
    rib_mm = ndimage.minimum_filter(rib_mm, window) - PLEURA_MM
    enough_lung = on_lung.sum(axis=1) * 2.0 >= LEAST_LUNG_MM
    covered = enough_lung & np.isfinite(rib_mm) & (rib_mm - end_mm > LEAST_RIM_MM)
    first_mm = np.where(covered, end_mm - WALL_MM, np.inf)
    rim = rays.between(first_mm, np.where(covered, rib_mm, -np.inf)) & scan.inside & ~lung
    core = ndimage.distance_transform_edt(rim, sampling=scan.spacing_mm) > WALL_MM
    return rim & _dilated(core, WALL_MM, scan.spacing_mm)


@dataclass(frozen=True)
class _Rays:
    """Rays from the centre of a lung to the side and to the back, the same in each slice.

    Args:
        offset_mm: lateral (X, 1) and posterior (1, Y) distance of each voxel from the centre.
        index: x and y of the voxel at each angle and distance, (angles, distances) each; -1 beyond the image.
    """

    offset_mm: tuple[np.ndarray, np.ndarray]
    index: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, lung: np.ndarray, scan: _Scan) -> "_Rays":
        x, y, _ = ndimage.center_of_mass(lung)
        side = 1.0 if x > np.flatnonzero(((scan.hu > LUNG_HU) & scan.inside).any(axis=(1, 2))).mean() else -1.0
        angle = np.deg2rad(RAY_DEG)[:, None]
        across = np.rint(x + side * np.cos(angle) * RAY_MM / scan.spacing_mm[0]).astype(int)
        along = np.rint(y + np.sin(angle) * RAY_MM / scan.spacing_mm[1]).astype(int)
        beyond = (across < 0) | (across >= lung.shape[0]) | (along < 0) | (along >= lung.shape[1])
        lateral = (np.arange(lung.shape[0]) - x)[:, None] * scan.spacing_mm[0] * side
        posterior = (np.arange(lung.shape[1]) - y)[None] * scan.spacing_mm[1]
        return cls((lateral, posterior), (np.where(beyond, -1, across), np.where(beyond, -1, along)))

    def sample(self, mask: np.ndarray) -> np.ndarray:
        """Mask along the rays: bool (angles, distances, Z)."""
        across, along = self.index
        return mask[across, along] & (across >= 0)[..., None]

    def between(self, first_mm: np.ndarray, last_mm: np.ndarray) -> np.ndarray:
        """Voxels between two distances (angles, Z): bool (X, Y, Z)."""
        lateral, posterior = self.offset_mm
        step_deg = RAY_DEG[1] - RAY_DEG[0]
        ray = np.rint((np.rad2deg(np.arctan2(posterior, lateral)) - RAY_DEG[0]) / step_deg).astype(int)
        reached = (ray >= 0) & (ray < len(RAY_DEG))
        ray = ray.clip(0, len(RAY_DEG) - 1)
        distance = np.hypot(lateral, posterior)[..., None]
        return reached[..., None] & (distance > first_mm[ray]) & (distance < last_mm[ray])


def _dilated(mask: np.ndarray, radius_mm: float, spacing_mm: Sequence[float]) -> np.ndarray:
    if not mask.any():
        return mask
    box = _box(mask, radius_mm, spacing_mm)
    result = mask.copy()
    result[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) <= radius_mm
    return result


def _closed(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Closing by a ball of ``CLOSING_MM``."""
    if not mask.any():
        return mask
    border = [(int(CLOSING_MM / step) + 2,) * 2 for step in spacing_mm]
    box = _box(mask, 0.0, spacing_mm)
    wide = _dilated(np.pad(mask[box], border), CLOSING_MM, spacing_mm)
    kept = ndimage.distance_transform_edt(wide, sampling=spacing_mm) > CLOSING_MM
    result = mask.copy()
    result[box] |= kept[tuple(slice(low, -high) for low, high in border)]
    return result


def _filled(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Fill holes in 3D, and holes of up to ``HOLE_MM2`` within a slice (a dome of the diaphragm is larger)."""
    labels, count = ndimage.label(np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True), SLICE_CROSS)
    area_mm2 = np.bincount(labels.ravel(), minlength=count + 1) * spacing_mm[0] * spacing_mm[1]
    hole = area_mm2 <= HOLE_MM2
    hole[[0, *np.unique(labels[0, 0])]] = False
    return ndimage.binary_fill_holes(mask) | hole[labels][1:-1, 1:-1]


def _box(mask: np.ndarray, margin_mm: float, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """Bounding box of a mask that is not empty, with a margin."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return _widened(box, margin_mm, spacing_mm)


def _widened(box: Sequence[slice], margin_mm: float, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    reach = [int(np.ceil(margin_mm / step)) for step in spacing_mm]
    return tuple(slice(max(0, part.start - more), part.stop + more) for part, more in zip(box, reach, strict=True))


def _check(image_hu: np.ndarray, spacing_mm: Sequence[float], case: str) -> None:
    if image_hu.ndim != 3 or 0 in image_hu.shape:
        raise ValueError(f"Case {case}: the image has shape {image_hu.shape}. Expected one volume (X, Y, Z) in HU.")
    if len(spacing_mm) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing_mm):
        raise ValueError(
            f"Case {case}: the voxel size is {tuple(spacing_mm)} mm. Expected three positive numbers (x, y, z). "
            "Check the affine of the image."
        )


def least_litres(spacing_mm: Sequence[float], shape: Sequence[int]) -> float:
    """Minimum lung volume of a chest scan, z to Superior.

    Example:
        >>> least_litres((1, 1, 5), (512, 512, 60)), least_litres((1, 1, 5), (512, 512, 8))
        (0.5, 0.2)
    """
    return PLAUSIBLE_LITRES[0] * min(1.0, spacing_mm[2] * shape[2] / WHOLE_MM)


def _check_plausible(mask: np.ndarray, image_hu: np.ndarray, spacing_mm: Sequence[float], case: str) -> None:
    litres = float(mask.sum()) * float(np.prod(spacing_mm)) / 1e6
    low, high = least_litres(spacing_mm, mask.shape), PLAUSIBLE_LITRES[1]
    if low <= litres <= high:
        return
    raise ValueError(
        f"Case {case}: no plausible lungs found: {litres:.2f} litres. Expected {low:.2g} to {high:g}. The image's "
        f"values range from {image_hu.min():g} to {image_hu.max():g}. Check that it is a whole chest CT in HU "
        "(air -1000, water 0), or give a lung mask."
    )
