"""Lesion classes of a CT, and what of them is infection."""

import logging
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from custom_components.command_line.typed_words import did_you_mean
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.images.slice_axis import slice_axis_of
from custom_components.reports.lesions import INFECTION_LABELS
from custom_components.transforms.checks.implausible_lungs import LUNG_NOTES
from custom_components.transforms.lesions_in_lungs import BESIDE_LUNG, slices_near
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE
from monai.data import MetaTensor
from scipy import ndimage

_logger = logging.getLogger(__name__)

# Sources of the infection, and how reports call the first.
EITHER, VBNET = "either", "vbnet"
EITHER_SOURCE = f"{VBNET_SOURCE} or lesion network (ground-glass, consolidation)"
# Seconds between two lines of the log about one scan.
LOG_EVERY_S = 30.0
# Slices that are looked at together; the probabilities of so many are held at once.
CHUNK = 16
# Slices by which the search is extended where an effusion continues.
EXTENSION = 4


@dataclass(frozen=True)
class LesionMap:
    """Lesion classes of a CT.

    Args:
        slices: that were searched, as indices of the array along the body's axis.
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); None when they
            were left out.
    """

    slices: tuple[int, ...] = ()
    lesions: np.ndarray | None = None


def find_lesions(image: MetaTensor, masks: LungMasks, bundle: BundleNetwork, case: str = "unknown") -> LesionMap:
    """Classify the lesions of a CT: voxel for voxel what the bundle's own inference gives with the same lungs.

    Where the bundle limits lesions to the lungs (``within_lungs``), only slices are searched whose lesions may stay:
    those that show lung, the next ones, and those into which an effusion continues from there. The network sees each
    slice alone, so that the others do not matter.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        masks: its lungs.
        bundle: ``covid_seg_bundle``.
        case: its name, for messages.

    Returns:
        The lesions, and which slices were searched.
    """
    steps = bundle.steps
    item = steps.apply("to_body", {"image": image, "case_id": case})
    body: MetaTensor = item["image"]
    of_image = _slices_of(image, body)
    near = np.ones(len(of_image), bool)
    if steps.get("within_lungs"):
        near = slices_near(masks.lungs, image.affine.numpy())[of_image]
    lesions, searched, wanted = torch.zeros(body.shape, dtype=torch.uint8), np.zeros_like(near), near
    while (missing := wanted & ~searched).any():
        _search(item, np.flatnonzero(missing), bundle, lesions)
        searched |= missing
        wanted = _with_effusion(lesions[0].numpy(), near, searched)
    item["pred"] = MetaTensor(lesions).copy_meta_from(body)
    known = {"native": image, "lung": masks.lung_like(image), LUNG_NOTES: ""}  # noted with the masks
    found = steps.apply("clean_up", {**steps.apply("from_body", item), **known})["pred"]
    return LesionMap(tuple(sorted(set(of_image[searched].tolist()))), np.asarray(found[0]).astype(np.uint8))


def _slices_of(image: MetaTensor, body: MetaTensor) -> np.ndarray:
    """For each slice of the upright body, the last axis, the index of the image's slice that it is."""
    axis = slice_axis_of(image.affine.numpy())
    points = np.zeros((4, body.shape[-1]))
    points[2], points[3] = np.arange(body.shape[-1]), 1
    index = (np.linalg.inv(image.affine.numpy()) @ body.affine.numpy() @ points)[axis]
    return np.rint(index).astype(int).clip(0, image.shape[axis + 1] - 1)


def _search(item: dict, places: np.ndarray, bundle: BundleNetwork, lesions: torch.Tensor) -> None:
    """Fill in the lesions of some slices of the body; the progress is logged at first, and then every half minute."""
    body, logged = item["image"], -math.inf
    for start in range(0, len(places), CHUNK):
        if time.monotonic() - logged >= LOG_EVERY_S:
            _logger.info("Case %s: lesion classes, slice %d of %d", item["case_id"], start + 1, len(places))
            logged = time.monotonic()
        some = torch.from_numpy(places[start : start + CHUNK])
        part = MetaTensor(body.as_tensor().index_select(-1, some), body.affine)
        found = bundle.predict(bundle.steps.apply("to_network", {**item, "image": part}))
        classes = torch.as_tensor(bundle.steps.apply("from_network", found)["pred"])
        lesions.index_copy_(-1, some, classes.to(torch.uint8))


def _with_effusion(lesions: np.ndarray, near: np.ndarray, searched: np.ndarray) -> np.ndarray:
    """The slices searched, and those beyond into which an effusion of the slices near the lungs may continue."""
    effusion = np.isin(lesions, BESIDE_LUNG)
    if not effusion[..., searched & ndimage.binary_dilation(~searched)].any():
        return searched
    parts, count = ndimage.label(effusion, np.ones((3, 3, 3)))
    continued = np.zeros(count + 1, bool)
    continued[parts[..., near]] = True
    continued[0] = False
    reached = continued[parts].any(axis=(0, 1))
    return searched | ndimage.binary_dilation(reached, iterations=EXTENSION)


@dataclass(frozen=True)
class Infection:
    """Infection of a CT.

    Args:
        infection: 0/1, uint8 (X, Y, Z), inside the lungs; None when it is unknown.
        infection_source: what found it, in words; None likewise.
    """

    infection: np.ndarray | None = None
    infection_source: str | None = None


def check_infection_by(infection_by: str) -> None:
    """Refuse a source of infection that there is not.

    Raises:
        ValueError: naming the two that there are.
    """
    if infection_by not in (EITHER, VBNET):
        near = did_you_mean(str(infection_by), (EITHER, VBNET), prefix="")
        raise ValueError(f"infection_by is {infection_by!r}. Expected {EITHER!r} or {VBNET!r}.{near}")


def find_infection(masks: LungMasks, lesions: LesionMap, infection_by: str = EITHER) -> Infection:
    """Decide which voxels of the lungs are infected.

    VB-Net sees the volume at 3 mm and misses faint ground-glass; the lesion network sees it slice by slice and misses
    others. Ground-glass and consolidation are infection, effusion is not. Ouyang et al. 2020 take VB-Net's alone.
    `docs/real_check.md` has what each source measures.

    Args:
        masks: lungs, and what VB-Net found.
        lesions: lesion classes of the same CT, limited to the lungs and their margin, or none.
        infection_by: ``either`` (VB-Net or the lesion network), or ``vbnet``.

    Returns:
        The infection, unknown without VB-Net's.

    Example:
        >>> lungs, vbnet, classes = (np.array([[row]], np.uint8) for row in ([1, 1, 1, 0], [1, 0, 0, 0], [0, 2, 3, 1]))
        >>> masks = LungMasks(lungs, "VB-Net", vbnet)
        >>> find_infection(masks, LesionMap((0,), classes)).infection.tolist()
        [[[1, 1, 0, 0]]]
        >>> find_infection(masks, LesionMap()).infection_source
        'VB-Net'
    """
    check_infection_by(infection_by)
    found = masks.vbnet_infection
    if found is None:
        return Infection()
    if infection_by == VBNET or lesions.lesions is None:
        return Infection(found, VBNET_SOURCE)
    dense = np.isin(lesions.lesions, INFECTION_LABELS) & (masks.lungs != 0)
    return Infection((dense | (found != 0)).astype(np.uint8), EITHER_SOURCE)
