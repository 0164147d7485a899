"""Remove lesions outside the lungs: a network that sees single slices also finds some in belly and shoulders."""

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from custom_components.images.slice_axis import slice_axis_of
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES, warned_of_lungs
from custom_components.transforms.lungs.fallback_lung_mask import SOURCE_KEY, FallbackLungMaskd
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type
from nibabel.affines import voxel_sizes
from scipy import ndimage

IN_LUNG, BESIDE_LUNG = (1, 2), (3,)  # ground-glass and consolidation; pleural effusion
MARGIN_MM = 2.0  # around the lung mask

_logger = logging.getLogger(__name__)


def lesions_in_lungs(
    lesions: np.ndarray, lungs: np.ndarray, affine: np.ndarray, margin_mm: float = MARGIN_MM
) -> np.ndarray:
    """Remove ground-glass and consolidation far from the lungs, and effusion that does not touch them.

    Args:
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion; (X, Y, Z).
        lungs: not 0 in the lungs; same shape.
        affine: (4, 4) voxel index to RAS mm, of both.
        margin_mm: distance from the mask that still counts as lung. Unless it is 0, effusion in a voxel next to the
            mask touches the lungs, whatever the voxel size.

    Returns:
        The remaining labels, same data type.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> lesions = np.array([[[1, 0, 1, 0, 3, 3]]])
        >>> lesions_in_lungs(lesions, np.array([[[1, 1, 0, 0, 0, 0]]]), np.eye(4), margin_mm=0).tolist()
        [[[1, 0, 0, 0, 0, 0]]]
        >>> lesions_in_lungs(lesions, np.array([[[1, 1, 0, 0, 1, 0]]]), np.eye(4), margin_mm=0).tolist()
        [[[1, 0, 0, 0, 3, 3]]]
    """
    if lesions.shape != lungs.shape:
        raise ValueError(f"Lesions are {lesions.shape}, lungs {lungs.shape}. Expected one shape: resample the mask.")
    if not lesions.any():
        return lesions
    near = lungs != 0
    if near.any() and margin_mm > 0:
        near = ndimage.distance_transform_edt(~near, sampling=voxel_sizes(affine)) <= margin_mm
    parts, _ = ndimage.label(np.isin(lesions, BESIDE_LUNG), np.ones((3, 3, 3)))
    around = near | ndimage.binary_dilation(lungs != 0) if margin_mm > 0 else near  # voxels may exceed the margin
    touching = np.isin(parts, np.setdiff1d(parts[around], 0))
    return np.where((np.isin(lesions, IN_LUNG) & near) | touching, lesions, 0).astype(lesions.dtype)


def slices_near(lungs: np.ndarray, affine: np.ndarray, margin_mm: float = MARGIN_MM) -> np.ndarray:
    """Slices that :func:`lesions_in_lungs` counts as lung, or that are next to them.

    Args:
        lungs: not 0 in the lungs; (X, Y, Z).
        affine: voxel index to RAS mm.
        margin_mm: distance from the mask that still counts as lung.

    Returns:
        Boolean, one per slice.

    Example:
        >>> slices_near(np.array([[[0, 0, 0, 1, 0, 0]]]), np.diag([1.0, 1, 5, 1])).astype(int).tolist()
        [0, 0, 1, 1, 1, 0]
    """
    axis = slice_axis_of(affine)
    shown = (lungs != 0).any(axis=tuple(other for other in range(3) if other != axis))
    reach = max(1, int(margin_mm / voxel_sizes(affine)[axis]))
    return ndimage.binary_dilation(shown, iterations=reach)


class LesionsInLungsd(MapTransform):
    """Limit the lesions of a volume to its lungs with :func:`lesions_in_lungs`; a single slice is not changed.

    A case without lung mask gets one by threshold and morphology (:class:`~custom_components.FallbackLungMaskd`). If
    that finds no plausible lungs, the lesions are not changed, and a warning names the case. Departs from Chen et al.
    2020, whose slices all show lungs.

    Args:
        keys: label maps (1, X, Y, Z), on the grid of the CT.
        image_key: the CT in HU, (1, X, Y, Z); a case without it is not changed.
        lung_key: the lung mask, if there is one, not 0 in the lungs, in any orientation.
        margin_mm: distance from the mask that still counts as lung.
        allow_missing_keys: whether a label map may be missing.

    Example:
        >>> import torch
        >>> slice_alone = {"pred": torch.ones(1, 4, 4, 1), "native": torch.zeros(1, 4, 4, 1)}
        >>> int(LesionsInLungsd("pred")(slice_alone)["pred"].sum())
        16
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "native",
        lung_key: str = "lung",
        margin_mm: float = MARGIN_MM,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.lung_key, self.margin_mm = image_key, lung_key, margin_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy with the limited label maps, and with ``lung_notes``, the warning about the lung mask.

        Raises:
            ValueError: when the lung mask or a label map is not on the grid of the CT.
        """
        item: dict[Any, Any] = dict(data)
        image = item.get(self.image_key)
        if not isinstance(image, MetaTensor) or image.ndim != 4 or min(image.shape[1:]) < 2:
            return item
        found = [key for key in self.key_iterator(item) if bool((item[key] != 0).any())]
        lungs = self._lungs(item, image)
        if lungs is None:
            return item
        for key in found:
            labels = item[key].cpu().numpy()
            limited = lesions_in_lungs(labels[0], lungs, image.affine.cpu().numpy(), self.margin_mm)
            item[key] = convert_to_dst_type(limited[None], item[key])[0]
        return item

    def _lungs(self, item: dict[Any, Any], image: MetaTensor) -> np.ndarray | None:
        """Lung mask of the case; adds a missing one and ``lung_notes`` to the case."""
        case = str(item.get("case_id") or case_id(image))
        if item.get(self.lung_key) is None:
            try:
                made = FallbackLungMaskd(lung_key=self.lung_key)({"image": image, "case_id": case})
                item |= {key: made[key] for key in (self.lung_key, SOURCE_KEY)}
            except ValueError as error:
                _logger.warning("%s Therefore its lesions are not limited to the lungs.", error)
                return None
        lungs = np.asarray(torch.as_tensor(mask_on_image(item[self.lung_key], image, "lung", case))[0].cpu())
        if LUNG_NOTES not in item:
            item[LUNG_NOTES] = warned_of_lungs(case, image[0].cpu().numpy(), lungs, image.affine.cpu().numpy())
        return lungs
