"""Connected regions of infection and pleural effusion: the list of lesions of a scan."""

from dataclasses import dataclass

import numpy as np
from custom_components.labels import LESION_CLASSES
from custom_components.reports.lesions import INFECTION_LABELS
from custom_components.reports.scan.displayed import SIDES, DisplayedScan
from custom_components.reports.scan.sentences import LESION_NAMES
from scipy.ndimage import find_objects, generate_binary_structure, label

EFFUSION = "pleural_effusion"


@dataclass(frozen=True)
class Region:
    """A connected region of voxels.

    Attributes:
        kind: what it is, in words.
        side: ``left`` or ``right``.
        volume_ml: its volume.
        first: its first slice in the order of the file.
        last: its last slice.
        voxel: a voxel of it in display orientation, near the middle of its largest slice.
    """

    kind: str
    side: str
    volume_ml: float
    first: int
    last: int
    voxel: tuple[int, int, int]


def regions_of(scan: DisplayedScan, most: int) -> tuple[list[Region], float]:
    """Regions of a scan by volume, largest first; voxels that share a corner are connected.

    Regions of infection are inside one lung, so that their volumes add up to the infection of the report. Without an
    infection mask, ground-glass and consolidation inside the lungs are listed.

    Args:
        scan: the scan.
        most: maximum number of regions.

    Returns:
        The regions, and the volume of those that were left out in ml.
    """
    regions = _infected_regions(scan)
    if scan.lesions is not None:
        regions += _regions(scan, scan.lesions == LESION_CLASSES.index(EFFUSION) + 1)
    regions.sort(key=lambda region: -region.volume_ml)
    return regions[:most], sum(region.volume_ml for region in regions[most:])


def largest_lesion(scan: DisplayedScan) -> Region | None:
    """The largest region of infection inside one lung, as in :func:`regions_of`; None without infection."""
    return max(_infected_regions(scan), key=lambda region: region.volume_ml, default=None)


def _infected_regions(scan: DisplayedScan) -> list[Region]:
    infected = scan.infection != 0 if scan.infection is not None else None
    if infected is None and scan.lesions is not None:
        infected = np.isin(scan.lesions, INFECTION_LABELS)
    if infected is None:
        return []
    sides = SIDES.items()
    return [region for side, value in sides for region in _regions(scan, infected & (scan.lungs == value), side)]


def _regions(scan: DisplayedScan, mask: np.ndarray, side: str = "") -> list[Region]:
    """Regions of a mask; without ``side`` they are effusion, on the side of the lungs' middle where they lie."""
    box = _box(mask)
    if box is None:
        return []
    labels, _ = label(mask[box], generate_binary_structure(3, 3))
    counts = np.bincount(labels.ravel())
    middle = 0.0 if side else _middle(scan)
    regions = []
    for value, place in enumerate(find_objects(labels), start=1):
        part = labels[place] == value
        whole = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, place, strict=True))
        z = int(part.sum(axis=(0, 1)).argmax())
        there = np.argwhere(part[:, :, z])
        x, y = there[np.square(there - there.mean(axis=0)).sum(axis=1).argmin()].tolist()
        voxel = (whole[0].start + x, whole[1].start + y, whole[2].start + z)
        first, last = sorted((scan.slice_indices[whole[2].start], scan.slice_indices[whole[2].stop - 1]))
        kind = _kind(scan, part, whole) if side else LESION_NAMES[EFFUSION]
        volume_ml = int(counts[value]) * scan.voxel_ml
        where = side or ("left" if voxel[0] > middle else "right")
        regions.append(Region(kind, where, volume_ml, first, last, voxel))
    return regions


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Smallest box with all voxels of a mask; None for an empty one."""
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not there.size:
            return None
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _kind(scan: DisplayedScan, part: np.ndarray, place: tuple[slice, ...]) -> str:
    """The most frequent class of a region of infection; ``infection`` where the lesion network found neither."""
    if scan.lesions is None:
        return "infection"
    counts = np.bincount(scan.lesions[place][part], minlength=len(LESION_CLASSES) + 1)
    best = max(INFECTION_LABELS, key=lambda value: counts[value])
    return f"mostly {LESION_NAMES[LESION_CLASSES[best - 1]]}" if counts[best] else "infection"


def _middle(scan: DisplayedScan) -> float:
    """Index between left and right: the middle of the lungs, of the scan without lungs."""
    there = np.flatnonzero((scan.lungs != 0).any(axis=(1, 2)))
    return float(there[0] + there[-1]) / 2 if there.size else (scan.lungs.shape[0] - 1) / 2
