"""Where lung and infection masks of a raw CT are from: VB-Net, the lungmask package, or threshold and morphology."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from custom_components.handlers.load_weights import read_state_dict
from custom_components.reports.scan.findings import Model
from custom_components.transforms.lungs.body_outline import LUNG_HU
from custom_components.transforms.lungs.fallback_lung_mask import FALLBACK_SOURCE, FallbackLungMaskd
from custom_components.transforms.lungs.left_right import left_right_lungs
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE, segment_lungs_and_infection
from monai.data import MetaTensor
from torch import nn

LUNGMASK_SOURCE = "lungmask (Hofmanninger et al. 2020)"

NO_INFECTION = (
    "Infection was not segmented: VB-Net, which it needs, has no weights. So the infection ratio is unknown. Train it "
    "(covid_cap_bundle, configs/segment_train.yaml), or give --segment_weights."
)


@dataclass(frozen=True)
class Segmenter:
    """VB-Net with its weights.

    Args:
        network: in eval mode.
        spacing_mm: voxel size along x, y, z that it was trained on.
        patch_size: voxels of a window along x, y, z, as in its training.
        window_hu: HU that became 0 and 1 in its training.
        amp: whether it computes in bfloat16; ``auto`` where the CPU does so in hardware.
        model: what reports tell of it.
    """

    network: nn.Module
    spacing_mm: Sequence[float]
    patch_size: Sequence[int]
    window_hu: Sequence[float]
    amp: bool | Literal["auto"]
    model: Model

    def __call__(self, image: MetaTensor) -> tuple[MetaTensor, MetaTensor]:
        """Lungs (1 left, 2 right) and infection of a CT, each (1, X, Y, Z)."""
        return segment_lungs_and_infection(
            image, self.network, self.spacing_mm, self.window_hu, self.amp, self.patch_size
        )


@dataclass(frozen=True)
class LungMasks:
    """Masks of one CT, on its own grid.

    Args:
        lungs: 0 background, 1 left, 2 right lung, uint8 (X, Y, Z).
        lung_source: what made them, in words.
        vbnet_infection: infection that VB-Net finds inside the lungs, 0/1, uint8 (X, Y, Z); None when it found none to
            trust, or has no weights.
        not_done: what was left out, in sentences.
        warnings: what speaks against the lungs, in sentences.
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


def find_lungs(image: MetaTensor, segmenter: Any = None, lungmask: Any = None) -> LungMasks:
    """Find lungs and, with VB-Net, infection.

    Lungs are lungmask's when it is given, else VB-Net's, else those of threshold and morphology. The last also steps
    in where VB-Net finds no plausible lungs; ``not_done`` then says so.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        segmenter: gives lungs and infection of a CT as :class:`Segmenter` does, or None.
        lungmask: gives the lungs (X, Y, Z) of a CT as :class:`Lungmask` does, or None.

    Returns:
        The masks.

    Raises:
        ValueError: naming the case, when no plausible lungs are found.
    """
    not_done = () if segmenter else (NO_INFECTION,)
    found = None
    if segmenter is not None:
        try:
            found = tuple(np.asarray(mask[0].cpu()) for mask in segmenter(image))
        except ValueError as error:
            not_done = (f"Lungs and infection by VB-Net: {error} So infection and its ratio are unknown.",)
    if lungmask is not None:
        lungs, source = _parted(lungmask(image), image), LUNGMASK_SOURCE
    elif found is not None:
        lungs, source = found[0], VBNET_SOURCE
    else:
        lungs, source = _parted(np.asarray(FallbackLungMaskd()({"image": image})["lung"][0]), image), FALLBACK_SOURCE
    if found is None:
        return LungMasks(lungs, source, not_done=not_done)
    infection = (found[1].astype(bool) & (lungs > 0)).astype(np.uint8)
    return LungMasks(lungs, source, infection, not_done)


class Lungmask:
    """Lungs by the package lungmask (J. Hofmanninger et al. 2020), an optional one; its weights are never downloaded.

    Args:
        weights: file of one of its models, such as ``unet_r231-d5d2fc3d.pth``.

    Raises:
        ValueError: when the package is not installed, the file is not there, or it holds more than tensors.
    """

    def __init__(self, weights: str | Path) -> None:
        if importlib.util.find_spec("lungmask") is None:
            raise ValueError(
                "The package lungmask is not installed. Install it (pip install lungmask), or leave out "
                "--lungmask_weights."
            )
        if not Path(weights).is_file():
            raise ValueError(f"No weights of lungmask at {weights}. Download a model of it, or correct the path.")
        read_state_dict(Path(weights))  # lungmask itself leaves it to PyTorch's default whether objects are unpickled
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


def _parted(mask: np.ndarray, image: MetaTensor) -> np.ndarray:
    return left_right_lungs(mask, image.affine.numpy(), np.asarray(image[0]) > LUNG_HU)
