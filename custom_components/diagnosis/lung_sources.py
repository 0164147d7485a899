"""Lung and infection masks of a CT: by VB-Net, the lungmask package, or threshold and morphology."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from custom_components.diagnosis.bundle_network import BundleSteps
from custom_components.handlers.load_weights import read_state_dict
from custom_components.transforms.lungs.body_outline import LUNG_HU
from custom_components.transforms.lungs.fallback_lung_mask import SOURCE_KEY
from custom_components.transforms.lungs.left_right import left_right_lungs
from custom_components.transforms.lungs.segment_lungs import SIDES_KEY
from monai.data import MetaTensor

LUNGMASK_SOURCE = "lungmask (Hofmanninger et al. 2020)"

NO_INFECTION = (
    "Infection was not segmented, and the infection ratio is unknown: VB-Net has no weights. Train it "
    "(covid_cap_bundle, configs/segment_train.yaml), or give --segment_weights."
)


@dataclass(frozen=True)
class LungMasks:
    """Masks on the grid of a CT.

    Args:
        lungs: 0 background, 1 left, 2 right lung, uint8 (X, Y, Z).
        lung_source: the method in words.
        vbnet_infection: infection by VB-Net inside the lungs, 0/1, uint8 (X, Y, Z); None without weights or plausible
            lungs of VB-Net.
        not_done: sentences on results that are missing.
        warnings: sentences on implausible lungs.
    """

    lungs: np.ndarray
    lung_source: str
    vbnet_infection: np.ndarray | None = None
    not_done: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def lung_like(self, image: MetaTensor) -> MetaTensor:
        """Both lungs as one mask of 0 and 1, uint8 (1, X, Y, Z), with the metadata of the CT."""
        mask = torch.from_numpy((self.lungs > 0).astype(np.uint8))[None]
        return MetaTensor(mask).copy_meta_from(image)


def find_lungs(image: MetaTensor, steps: BundleSteps | None = None, lungmask: Any = None) -> LungMasks:
    """Segment lungs and, with VB-Net, infection.

    Lungs are segmented by ``lungmask`` if given, otherwise by the step ``masks``: VB-Net or, without its weights,
    threshold and morphology. The latter also replace VB-Net if it finds no plausible lungs, as ``not_done`` then says.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        steps: steps of ``covid_cap_bundle``, or None.
        lungmask: returns the lungs (X, Y, Z) of a CT, as :class:`Lungmask`; or None.

    Returns:
        The masks.

    Raises:
        ValueError: naming the case, when no plausible lungs are found.
    """
    item: dict[str, Any] = {"image": image}
    not_done: tuple[str, ...] = ()
    if lungmask is not None:
        item["lung"] = MetaTensor(torch.from_numpy(np.ascontiguousarray(lungmask(image)))[None]).copy_meta_from(image)
    try:
        item = (steps or BundleSteps()).apply("masks", item)
    except ValueError as error:
        item = BundleSteps().apply("masks", item)
        not_done = (f"Lungs and infection by VB-Net: {error} Infection and its ratio are unknown.",)
    infection, sides = (np.asarray(item[key][0]) if key in item else None for key in ("infection", SIDES_KEY))
    if infection is None:
        not_done = not_done or (NO_INFECTION,)
    if sides is None:
        sides = left_right_lungs(np.asarray(item["lung"][0]), image.affine.numpy(), np.asarray(image[0]) > LUNG_HU)
    return LungMasks(sides, LUNGMASK_SOURCE if lungmask else item[SOURCE_KEY], infection, not_done)


class Lungmask:
    """Lungs by the optional package lungmask (J. Hofmanninger et al. 2020); weights are never downloaded.

    Args:
        weights: file of one of its models, such as ``unet_r231-d5d2fc3d.pth``.

    Raises:
        ValueError: when the package is not installed, or the file is missing or contains other objects than tensors.
    """

    def __init__(self, weights: str | Path) -> None:
        if importlib.util.find_spec("lungmask") is None:
            raise ValueError(
                "The package lungmask is not installed. Install it (pip install lungmask), or leave out "
                "--lungmask_weights."
            )
        if not Path(weights).is_file():
            raise ValueError(f"No weights of lungmask at {weights}. Download one of its models, or correct the path.")
        read_state_dict(Path(weights), option="--lungmask_weights")  # lungmask itself may unpickle any object
        from lungmask import LMInferer

        self._inferer = LMInferer(modelpath=str(weights), force_cpu=not torch.cuda.is_available(), tqdm_disable=True)

    def __call__(self, image: MetaTensor) -> np.ndarray:
        """Mask of both lungs.

        Args:
            image: CT in HU, (1, X, Y, Z), stored in any orientation.

        Returns:
            0/1, uint8 (X, Y, Z).
        """
        stored, wanted = nib.io_orientation(image.affine.numpy()), nib.orientations.axcodes2ornt(("L", "P", "S"))
        there, back = nib.orientations.ornt_transform(stored, wanted), nib.orientations.ornt_transform(wanted, stored)
        upright = nib.apply_orientation(image[0].numpy(), there)
        slices = np.ascontiguousarray(upright.transpose(2, 1, 0))
        found = (self._inferer.apply(slices) > 0).astype(np.uint8)
        return nib.apply_orientation(found.transpose(2, 1, 0), back)
