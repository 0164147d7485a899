"""Where infection lies in the lungs and how much it is, by plain rules on the masks.

Radiologists grade lobes, or zones divided by the carina and the inferior pulmonary vein, by eye. There is no mask of
lobes, carina or veins, so zones are thirds of each lung's height, and the score is an approximation:

* CT score: Y. Wang, C. Dong, Y. Hu, et al. Temporal Changes of CT Findings in 90 Patients with COVID-19 Pneumonia.
  Radiology 2020, 296:E55: six zones, each 0 to 4 for 0, < 25, 25 to < 50, 50 to < 75, >= 75 % involvement, 24 in all.
  The scores of 20 (Chung et al., Radiology 2020, 295:202) and 25 points (Pan et al., Radiology 2020, 295:715; Francone
  et al., Eur Radiol 2020, 30:6808) need lobes.
* Extent: Morozov et al. MosMedData, arXiv:2005.06465: CT-0 none, CT-1 below 25 %, CT-2 25 to 50 %, CT-3 50 to 75 %,
  CT-4 above 75 % of the lungs.
* Periphery: radiologists call the outer third of a lung peripheral. Here it is the third of each lung's volume nearest
  to its surface, including the surface towards mediastinum and diaphragm: a thinner shell.

The other rules (``LEAST_ML``, ``MAINLY``, ``PERIPHERAL_PERCENT``, ``CENTRAL_PERCENT``) are this project's own.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from custom_components.reports.scan.displayed import SIDES, DisplayedScan
from scipy.ndimage import distance_transform_edt

ZONES = ("upper", "middle", "lower")
# Least infection of a lung or zone that counts: smaller ones may be single misjudged vessels.
LEAST_ML = 1.0
# Share of the infection, in percent, from which it lies mainly in one zone.
MAINLY = 50.0
# Share of the infection in the outer third of the lungs' volume; 33 % if it is spread evenly.
PERIPHERAL_PERCENT, CENTRAL_PERCENT = 50.0, 100.0 / 6
# Borders of the scores 1 to 4 of a zone, and of the bands CT-1 to CT-4 of both lungs, in percent.
BORDERS = (25.0, 50.0, 75.0)

_OUTER = 1 / 3
# Voxel size to which the lungs are thinned for distances.
_WORKING_MM = 2.0
_DECIMALS = 2


def zone_voxels(lung_voxels: np.ndarray, infected_voxels: np.ndarray) -> np.ndarray:
    """Count the voxels of the six zones: thirds of each lung's height, from its lowest to its highest slice.

    Args:
        lung_voxels: lung voxels of each slice from bottom to top, shape (2, Z).
        infected_voxels: infected ones of these, shape (2, Z).

    Returns:
        Lung and infected voxels of each lung's upper, middle and lower third, shape (2, 3, 2).

    Example:
        >>> zone_voxels(np.array([[0, 9, 9, 9], [9, 9, 9, 0]]), np.array([[0, 0, 0, 5], [4, 0, 0, 0]]))[..., 1].tolist()
        [[5, 0, 0], [0, 0, 4]]
    """
    counts = np.zeros((2, 3, 2), dtype=np.int64)
    for side in range(2):
        there = np.flatnonzero(lung_voxels[side])
        if not there.size:
            continue
        slices = np.arange(there[0], there[-1] + 1)
        third = 2 - 3 * (slices - there[0]) // len(slices)
        for kind, voxels in enumerate((lung_voxels, infected_voxels)):
            counts[side, :, kind] = np.bincount(third, weights=voxels[side, slices], minlength=3)
    return counts


def peripheral_percent(scan: DisplayedScan) -> float | None:
    """Percentage of the infection that lies in the outer third of the lungs' volume.

    Distances to the surface are measured in mm in each lung on its own; where a lung is cut by the border of the scan,
    there is no surface. Of the voxels at the border distance a part counts, so that the third is exact.

    Args:
        scan: a scan with infection.

    Returns:
        0 to 100; None without infection in the lungs.
    """
    outer, infected = 0.0, 0
    for value in SIDES.values():
        lung = scan.lungs == value
        if scan.infection is None or not lung.any():
            continue
        steps = [max(1, int(_WORKING_MM / mm)) for mm in scan.spacing_mm]
        thinned = tuple(
            _thinned(lung.any(axis=tuple({0, 1, 2} - {axis})), steps[axis])  # one more voxel around, outside the lung
            for axis in range(3)
        )
        inside = lung[thinned]
        depth_mm = np.zeros(np.count_nonzero(inside))
        if not inside.all():
            depth_mm = distance_transform_edt(inside, np.multiply(scan.spacing_mm, steps))[inside]
        found = scan.infection[thinned][inside] != 0
        outer += _in_outer_third(depth_mm, found)
        infected += int(np.count_nonzero(found))
    return 100 * outer / infected if infected else None


def _in_outer_third(depth_mm: np.ndarray, found: np.ndarray) -> float:
    """Number of found voxels among the third of all voxels with the smallest depth."""
    wanted = _OUTER * len(depth_mm)
    last = max(0, math.ceil(wanted) - 1)
    border_mm = float(np.partition(depth_mm, last)[last])
    nearer, at_border = depth_mm < border_mm, depth_mm == border_mm
    share = (wanted - int(nearer.sum())) / max(1, int(at_border.sum()))
    return float(np.count_nonzero(found & nearer) + share * np.count_nonzero(found & at_border))


def _thinned(there: np.ndarray, step: int) -> slice:
    """Every ``step``-th index, from one before the first to one after the last."""
    places = np.flatnonzero(there)
    return slice(max(0, int(places[0]) - step), int(places[-1]) + step + 1, step)


def describe_distribution(scan: DisplayedScan) -> dict[str, Any] | None:
    """Distribution and extent of the infection, for ``report.json``.

    Args:
        scan: the scan.

    Returns:
        The entry ``distribution``; None without infection mask or without lungs.
    """
    infected = scan.infected_voxels
    if infected is None or not scan.lung_voxels.any():
        return None
    counts = zone_voxels(scan.lung_voxels, infected)
    zones = {
        side: {zone: _zone(counts[index, third], scan.voxel_ml) for third, zone in enumerate(ZONES)}
        for index, side in enumerate(SIDES)
    }
    scores: list[int | None] = [zone["score"] for lung in zones.values() for zone in lung.values()]
    side_ml = dict(zip(SIDES, (infected.sum(axis=1) * scan.voxel_ml).tolist(), strict=True))
    total = int(infected.sum())
    outer = peripheral_percent(scan)
    shares = [100 * voxels / total for voxels in counts[..., 1].sum(axis=0).tolist()] if total else None
    return {
        "laterality": _laterality(side_ml),
        "zones": zones,
        "share_percent": None
        if shares is None
        else dict(zip(ZONES, np.round(shares, _DECIMALS).tolist(), strict=True)),
        "peripheral_percent": None if outer is None else round(outer, _DECIMALS),
        "pattern": None if outer is None else _pattern(outer),
        "ct_score": None if None in scores else sum(filter(None, scores)),
        "extent": _extent(100 * total / int(scan.lung_voxels.sum())),
    }


def _zone(counts: np.ndarray, voxel_ml: float) -> dict[str, Any]:
    lung, infected = counts.tolist()
    percent = 100 * infected / lung if lung else None
    return {
        "percent": None if percent is None else round(percent, _DECIMALS),
        "score": None if percent is None else zone_score(percent, infected * voxel_ml),
    }


def zone_score(percent: float, infected_ml: float) -> int:
    """CT score of a zone (Wang et al. 2020); infection below ``LEAST_ML`` counts as none.

    Example:
        >>> [zone_score(percent, 50.0) for percent in (0.0, 0.1, 24.9, 25.0, 50.0, 74.9, 75.0, 100.0)]
        [1, 1, 1, 2, 3, 3, 4, 4]
        >>> zone_score(2.0, 0.9)
        0
    """
    return 0 if infected_ml < LEAST_ML else 1 + sum(percent >= border for border in BORDERS)


def _extent(percent: float) -> str:
    return f"CT-{0 if percent == 0 else 1 + sum(percent > border for border in BORDERS)}"


def _laterality(side_ml: Mapping[str, float]) -> str | None:
    affected = [side for side, volume_ml in side_ml.items() if volume_ml >= LEAST_ML]
    return "bilateral" if len(affected) == 2 else affected[0] if affected else None


def _pattern(outer_percent: float) -> str:
    if outer_percent >= PERIPHERAL_PERCENT:
        return "peripheral"
    return "central" if outer_percent <= CENTRAL_PERCENT else "both"
