"""Segment lungs and infection of a CT with VB-Net, on the CT's own grid."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from custom_components.inferers.autocast_inferer import AutocastInferer
from custom_components.labels import INFECTION, LUNG
from custom_components.transforms.checks.prediction import check_finite
from custom_components.transforms.lungs.body_outline import LUNG_HU, body_outline
from custom_components.transforms.lungs.fallback_lung_mask import FILE_SOURCE, SOURCE_KEY
from custom_components.transforms.lungs.left_right import left_right_lungs
from custom_components.transforms.lungs.lung_mask import PLAUSIBLE_LITRES, least_litres
from custom_components.transforms.paper_grid import LINEAR, NEAREST, paper_affine, sample
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Transform
from nibabel.affines import voxel_sizes
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy import ndimage
from torch import nn

VBNET_SOURCE = "VB-Net"
# Voxel size along x, y, z and patch size of VB-Net's training; overlap of sliding windows.
SPACING_MM, PATCH_SIZE, OVERLAP = (3.0, 3.0, 3.0), (128, 128, 40), 0.25
# HU scaled to 0 and 1; contrast above water depends on the scanner and is clipped.
WINDOW_HU = (-1100, 0)

# Lung regions below this share of the largest are trachea, bowel gas or air outside the body.
LEAST_PART = 0.03
# Key of VB-Net's lungs by side (1 left, 2 right).
SIDES_KEY = "lung_sides"
# Minimum score of a filled hole, just above the threshold of one half.
HARDLY_LUNG = 0.51


def segment_lungs_and_infection(
    image: MetaTensor,
    network: nn.Module,
    spacing_mm: Sequence[float] = SPACING_MM,
    window_hu: Sequence[float] = WINDOW_HU,
    amp: bool | Literal["auto"] = "auto",
    patch_size: Sequence[int] = PATCH_SIZE,
) -> tuple[MetaTensor, MetaTensor]:
    """Segment both lungs and their infection.

    The CT is resampled to the network's grid along its own axes, and the network processes the body in overlapping
    windows. Predictions outside the body outline, for example in a hollow table, are removed. The largest lung region
    and other large regions next to it are kept, with holes filled; infection counts only inside them. The scores are
    resampled to the CT, so that borders can lie between the voxels of the network's grid.

    Args:
        image: CT in HU, shape (1, X, Y, Z), stored in any orientation.
        network: VB-Net with the classes background, lung, infection; set to eval mode.
        spacing_mm: voxel size along x, y, z of its training.
        window_hu: HU scaled to 0 and 1, as in its training.
        amp: whether to use bfloat16; ``auto`` if the CPU supports it in hardware.
        patch_size: window size in voxels along x, y, z, as in its training.

    Returns:
        Lungs (0 background, 1 left, 2 right, infected lung included) and infection (0/1), uint8 MetaTensors of the
        shape and affine of the image.

    Raises:
        ValueError: names the case when the image is not such a volume, the network's output is not finite, or the lungs
            have less than 0.5 litres (for scans shorter than 100 mm: in proportion) or more than 12: not a chest, not
            HU, or an untrained network.
    """
    case = case_id(image)
    _check_image(image, case)
    affine = image.affine.cpu().numpy().astype(np.float64)
    grid = _grid(image.shape[1:], affine, spacing_mm)
    # z to Superior, y to Posterior, x to Left
    grid_affine = paper_affine(image.shape[1:], affine, grid, tuple(spacing_mm)[::-1], max_scale=1.0)
    hu = sample(image[0].cpu().numpy(), np.linalg.inv(affine) @ grid_affine, grid, LINEAR)
    inferer = AutocastInferer(SlidingWindowInferer(tuple(patch_size), overlap=OVERLAP, mode="gaussian"), enabled=amp)
    box = _around_body(hu, tuple(patch_size)[::-1])
    scores = _scores(hu, box, network, inferer, window_hu, image.device)
    check_finite(scores, case, "VB-Net")
    scores *= body_outline(hu.transpose(2, 1, 0), spacing_mm).transpose(2, 1, 0)
    sides = _plausible_sides(scores, hu, spacing_mm, case)
    lungs, infection = _to_image(sides, scores, tuple(image.shape[1:]), np.linalg.inv(grid_affine) @ affine)
    return _like(lungs, image), _like(infection, image)


class SegmentLungsd(Transform):
    """Add missing lung and infection masks from :func:`segment_lungs_and_infection` to a case.

    An existing mask is kept; VB-Net's infection is then limited to an existing lung mask. ``lung_source`` and
    ``infection_source`` name the origin of each mask: ``mask file`` or ``VB-Net``. If the lung mask was missing,
    ``lung_sides`` contains the left (1) and right (2) lung.

    Args:
        network: VB-Net; if None, the case is not changed.
        image_key: the CT in HU, a MetaTensor (1, X, Y, Z).
        lung_key: the lung mask; missing if the key is missing or its value is None.
        infection_key: the infection mask, in the same way.
        spacing_mm: see the function.
        window_hu: see the function.
        amp: see the function.
        patch_size: see the function.

    Raises:
        ValueError: on call, naming the case, as the function does.

    Example:
        >>> given = {"image": torch.zeros(1, 2, 3, 4), "lung": torch.ones(1, 2, 3, 4)}
        >>> SegmentLungsd(network=None)(given).keys()
        dict_keys(['image', 'lung'])
    """

    def __init__(
        self,
        network: nn.Module | None,
        image_key: str = "image",
        lung_key: str = "lung",
        infection_key: str = "infection",
        spacing_mm: Sequence[float] = SPACING_MM,
        window_hu: Sequence[float] = WINDOW_HU,
        amp: bool | Literal["auto"] = "auto",
        patch_size: Sequence[int] = PATCH_SIZE,
    ) -> None:
        self.network = network
        self.image_key, self.lung_key, self.infection_key = image_key, lung_key, infection_key
        self.settings = (tuple(spacing_mm), tuple(window_hu), amp, tuple(patch_size))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with both masks of 0 and 1, uint8 MetaTensors on the image's grid."""
        item = dict(data)
        keys = {self.lung_key: SOURCE_KEY, self.infection_key: "infection_source"}
        missing = [key for key in keys if item.get(key) is None]
        if self.network is None or not missing:
            return item
        found = segment_lungs_and_infection(item[self.image_key], self.network, *self.settings)
        for (key, source), mask in zip(keys.items(), found, strict=True):
            item[source] = VBNET_SOURCE if key in missing else FILE_SOURCE
            if key in missing:
                item[key] = (mask > 0).to(torch.uint8)
        if self.lung_key in missing:
            item[SIDES_KEY] = found[0]
        if self.infection_key in missing and self.lung_key not in missing:
            lung = mask_on_image(item[self.lung_key], item[self.image_key], self.lung_key, case_id(item))
            item[self.infection_key] = item[self.infection_key] * (torch.as_tensor(lung) > 0).to(torch.uint8)
        return item


def _grid(shape: Sequence[int], affine: np.ndarray, spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Size along z, y, x of the network's grid that contains the whole scan."""
    axes = np.argsort(ornt_transform(io_orientation(affine), axcodes2ornt(("S", "P", "L")))[:, 0])
    field_mm = (np.asarray(shape) * voxel_sizes(affine))[axes]
    return tuple(int(np.ceil(size)) for size in field_mm / np.asarray(spacing_mm)[::-1] - 1e-6)


def _scores(
    hu: np.ndarray,
    box: tuple[slice, ...],
    network: nn.Module,
    inferer: AutocastInferer,
    window_hu: Sequence[float],
    device: torch.device,
) -> np.ndarray:
    """Probabilities of lung (infected or not) and of infection, (2, D, H, W); 0 outside the box."""
    low, high = window_hu
    image = torch.from_numpy(((hu[box] - low) / (high - low)).clip(0, 1).astype(np.float32)).to(device)
    batch = image.permute(2, 1, 0)[None, None]  # VB-Net's axes are x, y, z
    was_training = network.training
    network.eval()
    with torch.no_grad():
        logits = inferer(batch, network)[0]
    network.train(was_training)
    probability = logits.softmax(dim=0).permute(0, 3, 2, 1)
    scores = np.zeros((2, *hu.shape), np.float32)
    scores[(slice(None), *box)] = torch.stack([probability[LUNG:].sum(0), probability[INFECTION]]).cpu().numpy()
    return scores


def _around_body(hu: np.ndarray, least: Sequence[int]) -> tuple[slice, ...]:
    """Box of the body, enlarged to one window where it is smaller: training patches also show the air around it."""
    box = []
    for part, size, wanted in zip(_body(hu), hu.shape, least, strict=True):
        missing = max(0, min(wanted, size) - (part.stop - part.start))
        start = min(max(0, part.start - missing // 2), size - (part.stop - part.start + missing))
        box.append(slice(start, start + part.stop - part.start + missing))
    return tuple(box)


def _body(hu: np.ndarray) -> tuple[slice, ...]:
    """Box of the largest connected tissue, without a table that does not touch it; the whole scan without tissue."""
    labels, count = ndimage.label(hu > LUNG_HU)
    if not count:
        return tuple(slice(0, size) for size in hu.shape)
    return ndimage.find_objects(labels)[int(np.bincount(labels.ravel())[1:].argmax())]


def _plausible_sides(scores: np.ndarray, hu: np.ndarray, spacing_mm: Sequence[float], case: str) -> np.ndarray:
    """Side of each lung voxel of the grid; 0 outside the kept lung regions."""
    lung = _plausible_parts(scores[0] > 0.5)
    litres = float(lung.sum()) * float(np.prod(spacing_mm)) / 1e6
    low, high = least_litres(spacing_mm, hu.shape[::-1]), PLAUSIBLE_LITRES[1]
    if not low <= litres <= high:
        raise ValueError(
            f"Case {case}: VB-Net finds {litres:.2f} litres of lung. Expected {low:.2g} to {high:g}: check that the "
            "image is a chest CT in HU and that the network is trained."
        )
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], range(4)] = (spacing_mm[2], -spacing_mm[1], -spacing_mm[0], 1.0)
    return left_right_lungs(lung, affine, hu > LUNG_HU)


def _plausible_parts(lung: np.ndarray) -> np.ndarray:
    """The largest region and other large regions at its height, with holes filled."""
    labels, count = ndimage.label(lung)
    if not count:
        return lung
    sizes = np.bincount(labels.ravel())[1:]
    largest = int(sizes.argmax()) + 1
    height = ndimage.find_objects(labels)[largest - 1][0]
    middles = np.array(ndimage.center_of_mass(lung, labels, range(1, count + 1)))[:, 0]
    kept = (sizes >= LEAST_PART * sizes.max()) & (middles >= height.start) & (middles < height.stop)
    filled = np.concatenate([[False], kept])[labels]
    box = ndimage.find_objects(filled.astype(np.uint8))[0]
    filled[box] = ndimage.binary_fill_holes(filled[box])
    return filled


def _to_image(
    sides: np.ndarray, scores: np.ndarray, shape: tuple[int, ...], to_grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lungs by side and infection on the image's voxels; sampled only around the lungs, the rest is 0."""
    box = _box(sides > 0, np.linalg.inv(to_grid), shape)
    moved = to_grid.copy()
    moved[:3, 3] = (to_grid @ [*(part.start for part in box), 1])[:3]
    size = tuple(part.stop - part.start for part in box)
    kept = sides > 0
    near = np.where(kept, sides, ndimage.grey_dilation(sides, size=(3, 3, 3)))
    # Filled holes count as lung, removed regions do not; the rim keeps its scores.
    score = np.where(kept, np.maximum(scores[0], HARDLY_LUNG), np.where(near > 0, np.minimum(scores[0], 0.5), 0.0))
    inside = sample(score.astype(np.float32), moved, size, LINEAR) > 0.5
    lungs, infection = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    lungs[box] = np.where(inside, sample(near, moved, size, NEAREST), 0)
    infected = sample(scores[1] - scores[0] / 2, moved, size, LINEAR) > 0
    infection[box] = infected & (lungs[box] > 0)
    return lungs, infection


def _box(mask: np.ndarray, to_image: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Box in the image around a mask on the grid, with a margin of one grid voxel."""
    ends = np.array([[part.start - 1, part.stop] for part in ndimage.find_objects(mask.astype(np.uint8))[0]])
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1)
    places = (to_image @ np.vstack([corners, np.ones(corners.shape[1])]))[:3]
    first, last = np.floor(places.min(axis=1)).astype(int), np.ceil(places.max(axis=1)).astype(int) + 1
    return tuple(slice(max(0, low), min(size, high)) for low, high, size in zip(first, last, shape, strict=True))


def _like(array: np.ndarray, image: MetaTensor) -> MetaTensor:
    return MetaTensor(torch.from_numpy(array)[None].to(image.device)).copy_meta_from(image)


def _check_image(image: Any, case: str) -> None:
    if isinstance(image, MetaTensor) and image.ndim == 4 and image.shape[0] == 1:
        return
    found = f"{type(image).__name__} of shape {tuple(getattr(image, 'shape', ()))}"
    raise ValueError(
        f"Case {case}: the image is a {found}. Expected a MetaTensor (1, X, Y, Z) in HU: load it with LoadImaged and "
        "EnsureChannelFirstd."
    )
