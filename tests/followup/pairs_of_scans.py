"""Pairs of scans with a known deformation of the lungs and a known change of the infection."""

from dataclasses import replace
from functools import cache

import numpy as np
from custom_components.followup.registration import Registration, register_lungs
from custom_components.followup.scan import DiagnosedScan
from custom_components.phantom import make_volume
from custom_components.reports.display import voxel_volume_ml
from custom_components.transforms.lungs.left_right import left_right_lungs
from scipy.ndimage import map_coordinates

SHAPE, SPACING_MM = (84, 76, 44), (4.3, 4.5, 6.6)


def known_shift(points_mm: np.ndarray, centre_mm: np.ndarray) -> np.ndarray:
    """Position in the earlier scan of points of the later one: another place on the table, breathing, and bending.

    Args:
        points_mm: RAS mm, shape (..., 3).
        centre_mm: middle of the scan.
    """
    x, y, z = np.moveaxis(points_mm - centre_mm, -1, 0)
    breathing = 10 * np.exp(-((z + 80) ** 2) / (2 * 60**2))
    shift = [4 * np.sin(y / 50) + 0.02 * x, 3 * np.cos(x / 60) - 0.03 * y, breathing + 3 * np.sin(x / 45)]
    return points_mm + np.stack(shift, axis=-1) + np.array([6.0, -4.0, 8.0])


def voxel_points_mm(scan: DiagnosedScan) -> np.ndarray:
    """RAS mm of each voxel, shape (X, Y, Z, 3)."""
    indices = np.moveaxis(np.indices(scan.hu.shape), 0, -1)
    return indices @ scan.affine[:3, :3].T + scan.affine[:3, 3]


def with_infection(scan: DiagnosedScan, infection: np.ndarray) -> DiagnosedScan:
    """The scan with another infection, in its CT too: 500 HU denser."""
    hu = scan.hu + 500 * (infection.astype(np.float32) - scan.infection)
    return replace(scan, hu=hu, infection=infection.astype(np.uint8), report=report_of(scan.lungs, infection, scan))


def warped(scan: DiagnosedScan, name: str) -> DiagnosedScan:
    """The same anatomy as the later scan that :func:`known_shift` maps to ``scan``, with noise of 20 HU."""
    points = voxel_points_mm(scan)
    there = known_shift(points, points.reshape(-1, 3).mean(axis=0))
    inverse = np.linalg.inv(scan.affine)
    index = np.moveaxis(there @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    hu = map_coordinates(scan.hu, index, order=1, cval=-1000.0)
    hu += np.random.default_rng(1).normal(0, 20, hu.shape).astype(np.float32)
    lungs, infection = (map_coordinates(mask, index, order=0) for mask in (scan.lungs, scan.infection))
    return replace(
        scan, case_id=name, hu=hu, lungs=lungs, infection=infection, report=report_of(lungs, infection, scan)
    )


@cache
def healthy() -> DiagnosedScan:
    """A phantom without lesions."""
    phantom = make_volume(3, SHAPE, SPACING_MM, lesions_ml={})
    lungs = left_right_lungs(phantom.lung, phantom.affine)
    none = np.zeros_like(lungs)
    bare = DiagnosedScan("earlier", phantom.image_hu, phantom.affine, lungs, none, None, {})
    return replace(bare, report=report_of(lungs, none, bare))


def ball(scan: DiagnosedScan, side: int, height: float, radius_mm: float) -> np.ndarray:
    """A ball in a lung, bool (X, Y, Z).

    Args:
        scan: the scan.
        side: value of the lung in its mask.
        height: of the ball's middle, as a share of the lung's height.
        radius_mm: its radius.
    """
    points = voxel_points_mm(scan)
    lung = points[scan.lungs == side]
    low, high = lung[:, 2].min(), lung[:, 2].max()
    level = lung[np.abs(lung[:, 2] - (low + height * (high - low))) < 8]
    return (np.linalg.norm(points - level.mean(axis=0), axis=-1) <= radius_mm) & (scan.lungs == side)


def volume_ml(mask: np.ndarray, scan: DiagnosedScan) -> float:
    return float(np.count_nonzero(mask)) * voxel_volume_ml(scan.affine)


def report_of(lungs: np.ndarray, infection: np.ndarray, scan: DiagnosedScan) -> dict:
    """The entries of report.json that a comparison reads."""
    sides = {"left": lungs == 1, "right": lungs == 2, "total": lungs != 0}
    lung_ml = {side: volume_ml(mask, scan) for side, mask in sides.items()}
    infected_ml = {side: volume_ml(mask & (infection != 0), scan) for side, mask in sides.items()}
    percent = {side: 100 * infected_ml[side] / lung_ml[side] for side in sides}
    return {
        "scan_sha256": "0" * 64,
        "models": [{"name": "VB-Net", "sha256": "1" * 64}],
        "lungs": {"source": "planted", "volume_ml": lung_ml},
        "infection": {"source": "planted", "volume_ml": infected_ml, "percent_of_lung": percent},
        "lesions": None,
        "warnings": [],
    }


@cache
def balls() -> dict[str, np.ndarray]:
    """Lesions of the pair on the grid of the phantom: one in both scans, one that resolves and one that is new."""
    scan = healthy()
    return {"persisting": ball(scan, 2, 0.3, 30), "resolved": ball(scan, 1, 0.65, 22), "new": ball(scan, 1, 0.25, 34)}


@cache
def planted_pair() -> tuple[DiagnosedScan, DiagnosedScan]:
    """Earlier and later scan of one phantom."""
    there = balls()
    earlier = with_infection(healthy(), there["persisting"] | there["resolved"])
    later = warped(with_infection(healthy(), there["persisting"] | there["new"]), "later")
    return earlier, later


@cache
def planted_registration() -> Registration:
    earlier, later = planted_pair()
    return register_lungs(later, earlier)


def planted_ml() -> dict[str, float]:
    """Volume of each lesion on the grid of the later scan."""
    return {
        name: volume_ml(warped(with_infection(healthy(), mask), name).infection, healthy())
        for name, mask in balls().items()
    }
