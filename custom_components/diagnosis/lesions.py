"""Lesion classes of a CT, and its infection."""

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

# Sources of the infection, and the name of the first in reports.
EITHER, VBNET = "either", "vbnet"
EITHER_SOURCE = f"{VBNET_SOURCE} or lesion network (ground-glass, consolidation)"
# Seconds between two log lines on the progress of a scan.
LOG_EVERY_S = 30.0
# Slices that are processed together, with their probabilities in memory.
CHUNK = 16
# Number of slices by which the search is extended along an effusion.
EXTENSION = 4
# Slices that are also segmented as mirror images.
MIRRORED = 8


@dataclass(frozen=True)
class LesionMap:
    """Lesion classes of a CT.

    Args:
        slices: indices of the searched slices, along the array axis that is nearest to head-feet.
        lesions: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); None if not
            searched.
        mirror_slices: number of slices with infection that were also segmented as mirror images (left for right).
        mirror_dice: Dice of both results for ground-glass and consolidation in the lungs; None without such slices.
    """

    slices: tuple[int, ...] = ()
    lesions: np.ndarray | None = None
    mirror_slices: int = 0
    mirror_dice: float | None = None


def find_lesions(image: MetaTensor, masks: LungMasks, bundle: BundleNetwork, case: str = "unknown") -> LesionMap:
    """Segment the lesion classes of a CT; each voxel is equal to the bundle's own inference with the same lungs.

    If the bundle limits lesions to the lungs (``within_lungs``), only slices are searched that can keep a lesion:
    slices with lung, their neighbours, and slices into which an effusion continues. The network processes each slice
    independently, so the other slices have no influence.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        masks: lungs of the CT.
        bundle: ``covid_seg_bundle``.
        case: name of the case, for messages.

    Returns:
        The lesions and the searched slices.
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
    places = _some_infected(lesions[0].numpy())
    mirrored = torch.zeros_like(lesions) if len(places) else lesions[:0]
    _search(item, places, bundle, mirrored, mirror=True)
    item["pred"] = MetaTensor(torch.cat((lesions, mirrored))).copy_meta_from(body)
    item = steps.apply("from_body", item)
    known = {"native": image, "lung": masks.lung_like(image), LUNG_NOTES: ""}  # the notes are reported with the masks
    found = steps.apply("clean_up", {**item, "pred": item["pred"][:1], **known})["pred"]
    dice = _mirror_dice(np.asarray(item["pred"]), masks.lungs, of_image[places], slice_axis_of(image.affine.numpy()))
    slices = tuple(sorted(set(of_image[searched].tolist())))
    return LesionMap(slices, np.asarray(found[0]).astype(np.uint8), len(places), dice)


def _slices_of(image: MetaTensor, body: MetaTensor) -> np.ndarray:
    """Index of the image's slice for each slice of the upright body, along its last axis."""
    axis = slice_axis_of(image.affine.numpy())
    points = np.zeros((4, body.shape[-1]))
    points[2], points[3] = np.arange(body.shape[-1]), 1
    index = (np.linalg.inv(image.affine.numpy()) @ body.affine.numpy() @ points)[axis]
    return np.rint(index).astype(int).clip(0, image.shape[axis + 1] - 1)


def _some_infected(lesions: np.ndarray) -> np.ndarray:
    """At most ``MIRRORED`` slices with ground-glass or consolidation, evenly spaced."""
    infected = np.flatnonzero(np.isin(lesions, INFECTION_LABELS).any(axis=(0, 1)))
    return infected[np.linspace(0, len(infected) - 1, min(MIRRORED, len(infected))).round().astype(int)]


def _mirror_dice(both: np.ndarray, lungs: np.ndarray, slices: np.ndarray, axis: int) -> float | None:
    """Dice of the infection in the lungs of some slices, between two label maps (2, X, Y, Z)."""
    if not len(slices):
        return None
    inside = lungs.take(slices, axis) != 0
    one, other = (np.isin(classes.take(slices, axis), INFECTION_LABELS) & inside for classes in both)
    return 2 * int((one & other).sum()) / total if (total := int(one.sum() + other.sum())) else None


def _search(item: dict, places: np.ndarray, bundle: BundleNetwork, lesions: torch.Tensor, mirror: bool = False) -> None:
    """Fill in the lesions of some slices of the body; the progress is logged at the start and every half minute.

    With ``mirror``, the network gets each slice with left and right exchanged, and its result is changed back.
    """
    flipped = [1] if mirror else []
    body, logged = item["image"], -math.inf
    for start in range(0, len(places), CHUNK):
        if time.monotonic() - logged >= LOG_EVERY_S:
            kind = "mirrored slice" if mirror else "slice"
            _logger.info("Case %s: lesion classes, %s %d of %d", item["case_id"], kind, start + 1, len(places))
            logged = time.monotonic()
        some = torch.from_numpy(places[start : start + CHUNK])
        part = MetaTensor(body.as_tensor().index_select(-1, some).flip(flipped), body.affine)
        found = bundle.predict(bundle.steps.apply("to_network", {**item, "image": part}))
        classes = torch.as_tensor(bundle.steps.apply("from_network", found)["pred"])
        lesions.index_copy_(-1, some, classes.to(torch.uint8).flip(flipped))


def _with_effusion(lesions: np.ndarray, near: np.ndarray, searched: np.ndarray) -> np.ndarray:
    """The searched slices, and further slices into which an effusion near the lungs may continue."""
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
        infection: 0/1, uint8 (X, Y, Z), inside the lungs; None if unknown.
        infection_source: the method in words; None if unknown.
    """

    infection: np.ndarray | None = None
    infection_source: str | None = None


def check_infection_by(infection_by: str) -> None:
    """Check the name of the source of infection.

    Raises:
        ValueError: names the two sources.
    """
    if infection_by not in (EITHER, VBNET):
        near = did_you_mean(str(infection_by), (EITHER, VBNET), prefix="")
        raise ValueError(f"infection_by is {infection_by!r}. Expected {EITHER!r} or {VBNET!r}.{near}")


def find_infection(masks: LungMasks, lesions: LesionMap, infection_by: str = EITHER) -> Infection:
    """Decide which voxels of the lungs are infected.

    VB-Net works on the volume at 3 mm and misses faint ground-glass; the lesion network works on slices and misses
    other infection. Ground-glass and consolidation are infection, effusion is not. Ouyang et al. 2020 use only VB-Net.
    `docs/real_check.md` compares the scores of both.

    Args:
        masks: lungs, and the infection found by VB-Net.
        lesions: lesion classes of the same CT, limited to the lungs and their margin, or none.
        infection_by: ``either`` (VB-Net or the lesion network) or ``vbnet``.

    Returns:
        The infection; unknown without VB-Net.

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
