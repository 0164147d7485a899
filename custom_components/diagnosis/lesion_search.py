"""Lesion classes of a CT, on chosen slices alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.reports.case_lesions import turn_to_display
from monai.data import MetaTensor

# Slices that are looked at together; the probabilities of so many are held at once.
CHUNK = 16


def slice_axis_of(affine: np.ndarray) -> int:
    """Axis of the array that runs along the body.

    Example:
        >>> slice_axis_of(np.diag([-1.0, -1, 2, 1]))
        2
    """
    return int(np.flatnonzero(turn_to_display(affine)[:, 0] == 2)[0])


def slices_with(mask: np.ndarray, affine: np.ndarray) -> tuple[int, ...]:
    """Indices, along the body's axis, of the slices in which a mask is not 0."""
    axis = slice_axis_of(affine)
    others = tuple(other for other in range(3) if other != axis)
    return tuple(np.flatnonzero((mask != 0).any(axis=others)).tolist())


def find_lesions(image: MetaTensor, slices: Sequence[int], bundle: BundleNetwork) -> np.ndarray:
    """Classify the pixels of some slices; the network sees each slice alone, so the others do not matter.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        slices: indices along the body's axis.
        bundle: ``covid_seg_bundle``.

    Returns:
        0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); 0 on all other slices.
    """
    axis = slice_axis_of(image.affine.numpy())
    lesions = np.zeros(image.shape[1:], np.uint8)
    for start in range(0, len(slices), CHUNK):
        chosen = list(slices[start : start + CHUNK])
        part = image.index_select(axis + 1, torch.tensor(chosen))
        found = _classes(part, bundle)
        np.moveaxis(lesions, axis, 0)[chosen] = np.moveaxis(found, axis, 0)
    return lesions


def _classes(part: Any, bundle: BundleNetwork) -> np.ndarray:
    item = bundle.restore(bundle.predict(bundle.prepare({"image": part})))
    return np.asarray(torch.as_tensor(item["pred"])[0].cpu()).astype(np.uint8)
