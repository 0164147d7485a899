from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from custom_components.infection_size import check_ratio
from custom_components.transforms.align_masks import binary_mask
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES, warned_of_lungs
from monai.data import MetaTensor
from monai.transforms import MapTransform

# Range of the median HU in a lung mask, from emphysema to a fully consolidated lung.
LUNG_MEDIAN_HU = (-1000.0, 0.0)

# Below tissue and, except for a few voxels, scanner noise; padding is lower (-2000, -2048, -3024).
PADDING_BELOW_HU = -1100.0

# Allowed share of lung voxels below ``PADDING_BELOW_HU``.
MAX_PADDING = 0.01

# The median uses every n-th lung voxel, at least this many, because a full sort would be slow.
MEDIAN_VOXELS = 1_000_000


class CheckScand(MapTransform):
    """Check, right after loading, that CT and masks are valid input for the networks; they are not changed.

    Masks must have the CT's grid and contain only 0 and 1, or 0 and 255; the lung mask also 2 (1 left, 2 right). The
    lung mask must not be empty, the values inside it must be HU without offset and padding, and the infection must lie
    in the lungs. Voxels outside the lungs are not checked, so padding around the body is fine. A mask may have another
    orientation than the CT.

    An implausible lung mask (:func:`implausible_lungs`) is only logged, once per case, and noted under ``lung_notes``.

    Args:
        image_key: the CT in HU.
        lung_key: the lung mask.
        infection_key: the infection mask; may be missing or None.
        max_outside: share of the infection that may lie outside the lung mask, 0 to 1.

    Raises:
        ValueError: at once when ``max_outside`` is not in 0 to 1; on call, naming the case, the problem and what to do.

    Example:
        >>> lung = torch.ones(1, 2, 3, 4)
        >>> CheckScand()({"image": lung * -800, "lung": lung}).keys()
        dict_keys(['image', 'lung', 'lung_notes'])
        >>> CheckScand()({"image": lung * -800, "lung": lung * 0, "case_id": "covid_017"})
        Traceback (most recent call last):
        ...
        ValueError: Case covid_017: lung mask is empty (0 of 24 voxels). Check the mask file or segment the lungs again.
    """

    def __init__(
        self,
        image_key: str = "image",
        lung_key: str = "lung",
        infection_key: str = "infection",
        max_outside: float = 0.1,
    ) -> None:
        super().__init__((image_key, lung_key, infection_key))
        if not 0 <= max_outside <= 1:
            raise ValueError(
                f"max_outside is {max_outside}. Expected a fraction of the infection, 0 to 1, such as 0.1."
            )
        self.image_key, self.lung_key, self.infection_key = image_key, lung_key, infection_key
        self.max_outside = max_outside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check CT and masks, (1, X, Y, Z), and return a shallow copy; a missing affine is treated as the identity."""
        item = dict(data)
        case = str(item.get("case_id") or case_id(item))
        image = self._volume(item, self.image_key, case)
        lung = self._mask(item, self.lung_key, image, case)
        _check_slices(image, case)
        _check_lung(lung, case)
        _check_hu(_array(image)[lung], case)
        if item.get(self.infection_key) is not None:
            self._check_infection(self._mask(item, self.infection_key, image, case), lung, case)
        memory = _slowest_first(image)
        hu, inside = (array.transpose(np.argsort(memory)) for array in (_array(image), lung))
        item[LUNG_NOTES] = warned_of_lungs(case, hu, inside, image.affine.cpu().numpy())
        return item

    def _volume(self, item: Mapping[Hashable, Any], key: str, case: str) -> MetaTensor:
        if item.get(key) is None:
            remedy = ", or segment the lungs first" if key == self.lung_key else ""
            raise ValueError(f"Case {case}: {key} is missing. Add it to the datalist{remedy}.")
        volume = item[key] if isinstance(item[key], MetaTensor) else MetaTensor(item[key])
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(
                f"Case {case}: {key} has shape {tuple(volume.shape)}. Expected one volume (1, X, Y, Z): "
                "load it with ensure_channel_first."
            )
        return volume

    def _mask(self, item: Mapping[Hashable, Any], key: str, image: MetaTensor, case: str) -> np.ndarray:
        """Voxels in which a mask is 1, indexed like ``_array(image)``."""
        mask = mask_on_image(self._volume(item, key, case), image, key, case)
        array = _array(binary_mask(mask, key == self.lung_key), image)
        inside = array == 1
        wrong = array.size - np.count_nonzero(inside) - np.count_nonzero(array == 0)
        if wrong:
            raise ValueError(_not_binary(array, int(wrong), key, case))
        return inside

    def _check_infection(self, infection: np.ndarray, lung: np.ndarray, case: str) -> None:
        voxels = int(np.count_nonzero(infection))
        outside = voxels - int(np.count_nonzero(infection & lung))
        if outside > self.max_outside * voxels:
            raise ValueError(
                f"Case {case}: {100 * outside / voxels:.1f} % of the infection ({outside:,} of {voxels:,} voxels) lies "
                f"outside the lung mask. Expected at most {100 * self.max_outside:g} %. Take both masks from one "
                "segmentation; the lung mask must include diseased lung."
            )
        check_ratio(voxels / int(np.count_nonzero(lung)), case)


def _array(volume: MetaTensor, like: MetaTensor | None = None) -> np.ndarray:
    """The voxels with the slowest axis of ``like`` in memory first, for faster indexing."""
    memory = _slowest_first(volume if like is None else like)
    array = volume.as_tensor().detach().cpu()[0]
    array = array.float() if array.dtype == torch.bfloat16 else array
    return array.numpy().transpose(memory)


def _slowest_first(volume: torch.Tensor) -> np.ndarray:
    return np.argsort(volume.stride()[1:], kind="stable")[::-1]


def _not_binary(array: np.ndarray, wrong: int, key: str, case: str) -> str:
    values = np.unique(array[(array != 0) & (array != 1)])
    shown = ", ".join(f"{value:g}" for value in values[:3])
    more = f" and {len(values) - 3} more" if len(values) > 3 else ""
    return (
        f"Case {case}: {key} has {wrong:,} voxels that are neither 0 nor 1 ({shown}{more}). "
        "Expected a mask of 0 and 1: binarise it, 1 for every label that belongs to it."
    )


def _check_slices(image: MetaTensor, case: str) -> None:
    if 1 in image.shape[1:]:
        size = " x ".join(map(str, image.shape[1:]))
        raise ValueError(f"Case {case}: the image is one slice ({size}). Expected a CT volume of the whole chest.")


def _check_lung(lung: np.ndarray, case: str) -> None:
    if not lung.any():
        raise ValueError(
            f"Case {case}: lung mask is empty (0 of {lung.size:,} voxels). "
            "Check the mask file or segment the lungs again."
        )


def _check_hu(lung_hu: np.ndarray, case: str) -> None:
    low, high = LUNG_MEDIAN_HU
    median = float(np.median(lung_hu[:: max(1, lung_hu.size // MEDIAN_VOXELS)]))
    if not low <= median <= high:
        cause = (
            "stored values without the rescale intercept (about -1024), or display intensities"
            if median > high
            else "values rescaled twice (about 1000 too low), or padding instead of lung"
        )
        raise ValueError(
            f"Case {case}: median inside the lung mask is {median:.0f} HU. Expected {low:.0f} to {high:.0f} HU; these "
            f"look like {cause}. Export the scan in HU, rescale slope and intercept applied once."
        )
    padding = np.count_nonzero(lung_hu < PADDING_BELOW_HU) / lung_hu.size
    if padding > MAX_PADDING:
        raise ValueError(
            f"Case {case}: {100 * padding:.1f} % of the lung mask is below {PADDING_BELOW_HU:.0f} HU (down to "
            f"{lung_hu.min():.0f} HU). Expected at most {100 * MAX_PADDING:g} %: these voxels are scanner padding, "
            "not lung. Check that the mask belongs to this scan and ends at its field of view."
        )
