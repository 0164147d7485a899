"""Lesion classes of a CT, on chosen slices alone."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from custom_components.diagnosis.bundle_network import BundleNetwork
from custom_components.diagnosis.lung_sources import LungMasks
from custom_components.reports.display import Display
from custom_components.reports.lesions import INFECTION_LABELS
from custom_components.transforms.lesions_in_lungs import LesionsInLungsd
from custom_components.transforms.lungs.segment_lungs import VBNET_SOURCE
from custom_components.transforms.small_lesions import RemoveSmallLesionsd
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, Invertd

_logger = logging.getLogger(__name__)

# Seconds between two lines of the log about one scan.
LOG_EVERY_S = 30.0
# Slices that are looked at together; the probabilities of so many are held at once.
CHUNK = 16
# Slices that a CPU works on at once, each on one core: much of the network's work is sorting and small products, which
# several cores do not share well. Each takes about 0.6 GB.
MAX_WORKERS = 8
# Steps that need the whole volume.
OF_VOLUMES = (LesionsInLungsd, RemoveSmallLesionsd)


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


def slice_axis_of(affine: np.ndarray) -> int:
    """Axis of the array that runs along the body.

    Example:
        >>> slice_axis_of(np.diag([-1.0, -1, 2, 1]))
        2
    """
    return Display(affine).slice_axis


def slices_with(mask: np.ndarray, affine: np.ndarray) -> tuple[int, ...]:
    """Indices, along the body's axis, of the slices in which a mask is not 0."""
    axis = slice_axis_of(affine)
    others = tuple(other for other in range(3) if other != axis)
    return tuple(np.flatnonzero((mask != 0).any(axis=others)).tolist())


def find_lesions(image: MetaTensor, slices: Sequence[int], bundle: BundleNetwork, case: str = "unknown") -> np.ndarray:
    """Classify the pixels of some slices; the network sees each slice alone, so the others do not matter.

    They do for the crop to the body, which is one box for the volume, as in the bundle's own inference.

    Args:
        image: CT in HU, (1, X, Y, Z), stored in any orientation.
        slices: indices along the body's axis.
        bundle: ``covid_seg_bundle``.
        case: its name, for the log.

    Returns:
        0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion, uint8 (X, Y, Z); 0 on all other slices. Not
        limited to the lungs, and with small lesions, unlike what the bundle's own inference gives.
    """
    if not slices:
        return np.zeros(image.shape[1:], np.uint8)
    whole, each = _split(bundle)
    cropped: MetaTensor = whole({"image": image})["image"]
    chosen = _places(image, slices, cropped)
    axis = slice_axis_of(cropped.affine.numpy())
    lesions = torch.zeros(cropped.shape, dtype=torch.uint8)
    with _workers() as spread:
        for start in with_progress_log(range(0, len(chosen), CHUNK), f"Case {case}: lesion classes", len(chosen)):
            places = torch.tensor(chosen[start : start + CHUNK])
            part = MetaTensor(cropped.as_tensor().index_select(axis + 1, places), cropped.affine)
            item = each.prepare({"image": part})
            found = each.predict(item) if each.device.type != "cpu" else _predict_slices(item, each, spread)
            classes = torch.as_tensor(each.restore(found)["pred"]).cpu().to(torch.uint8)
            lesions.index_copy_(axis + 1, places, classes)
    restored = whole.inverse({"image": MetaTensor(lesions).copy_meta_from(cropped)})["image"]
    return np.asarray(restored[0]).astype(np.uint8)


def with_progress_log(starts: Iterable[int], what: str, count: int) -> Iterator[int]:
    """Yield the starts of chunks of slices; log the progress at first, and then every half minute."""
    logged = -math.inf
    for start in starts:
        if time.monotonic() - logged >= LOG_EVERY_S:
            _logger.info("%s, slice %d of %d", what, start + 1, count)
            logged = time.monotonic()
        yield start


def _split(bundle: BundleNetwork) -> tuple[Compose, BundleNetwork]:
    """What is done to the volume, up to its crop, and the bundle that does the rest to any of its slices.

    What needs the whole volume afterwards is left to the caller.
    """
    steps = bundle.before.flatten().transforms
    crops = [place for place, step in enumerate(steps) if isinstance(step, CropForegroundd)]
    first = crops[-1] + 1 if crops else 0
    before, restored = Compose(steps[first:]), deepcopy(bundle.after).flatten().transforms
    for step in restored:
        if isinstance(step, Invertd):
            step.transform = before
    after = Compose([step for step in restored if not isinstance(step, OF_VOLUMES)])
    return Compose(steps[:first]), replace(bundle, before=before, after=after)


def _places(image: MetaTensor, slices: Sequence[int], cropped: MetaTensor) -> list[int]:
    """Where slices of a volume lie in what was cropped and turned; those that were cropped away are left out."""
    own, other = slice_axis_of(image.affine.numpy()), slice_axis_of(cropped.affine.numpy())
    points = np.zeros((4, cropped.shape[other + 1]))
    points[other], points[3] = np.arange(points.shape[1]), 1
    indices = np.rint((np.linalg.inv(image.affine.numpy()) @ cropped.affine.numpy() @ points)[own]).astype(int)
    return np.flatnonzero(np.isin(indices, slices)).tolist()


def _predict_slices(
    item: Mapping[str, Any], bundle: BundleNetwork, spread: Callable[..., Iterable[Any]]
) -> dict[str, Any]:
    """As ``BundleNetwork.predict``, the image (1, X, Y, n) slice by slice."""

    def predict(part: MetaTensor) -> Any:
        own = replace(bundle, inferer=deepcopy(bundle.inferer))  # MONAI's SliceInferer changes itself when called
        return own.predict({"image": part})["pred"].as_tensor()

    image = item["image"]
    found = torch.cat(list(spread(predict, image.split(1, dim=-1))), dim=-1)
    return {**item, "pred": MetaTensor(found).copy_meta_from(image)}


@contextmanager
def _workers() -> Iterator[Callable[..., Iterable[Any]]]:
    """A map that gives each slice a core of its own, one however many there are: so its result is always the same."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(threads, MAX_WORKERS), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


EITHER, VBNET = "either", "vbnet"
EITHER_SOURCE = f"{VBNET_SOURCE} or lesion network (ground-glass, consolidation)"


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
        raise ValueError(f"infection_by is {infection_by!r}. Expected {EITHER!r} or {VBNET!r}.")


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
