"""How much of which lesion: volumes in ml and infection in percent of the lung (Chen et al. 2020, Sec. I)."""

from dataclasses import dataclass

import numpy as np
from custom_components.data.lesion_classes import IGNORE_LABEL, LESION_CLASSES

# Ground-glass and consolidation lie in the lung; pleural effusion lies outside it.
INFECTION_LABELS = (1, 2)

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class InfectionPercent:
    """Infected share of the lung.

    Attributes:
        volume: percent of the whole lung; NaN when the lung mask is empty.
        slices: percent of each slice's lung, shape (Z,); NaN in slices without lung.
    """

    volume: float
    slices: np.ndarray


def voxel_volume_ml(affine: np.ndarray) -> float:
    """Volume of one voxel.

    Args:
        affine: voxel index to mm, shape (4, 4).

    Returns:
        Volume in ml.

    Example:
        >>> voxel_volume_ml(np.diag([-2.0, -5.0, 10.0, 1.0]))
        0.1
    """
    x, y, z = np.asarray(affine, dtype=np.float64)[:3, :3].T
    return float(abs(np.dot(x, np.cross(y, z)))) / _MM3_PER_ML


def lesion_volumes_ml(label: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Volume of each lesion class.

    Args:
        label: label map, any shape (X, Y, Z).
        affine: voxel index to mm, shape (4, 4).

    Returns:
        Class name to volume in ml.

    Example:
        >>> lesion_volumes_ml(np.array([[[1, 1, 3, 0]]]), np.diag([10, 10, 10, 1]))
        {'ground_glass': 2.0, 'consolidation': 0.0, 'pleural_effusion': 1.0}
    """
    voxel_ml = voxel_volume_ml(affine)
    return {name: int(np.count_nonzero(label == value)) * voxel_ml for value, name in enumerate(LESION_CLASSES, 1)}


def infection_percent(label: np.ndarray, lung: np.ndarray) -> InfectionPercent:
    """Share of the lung that is ground-glass or consolidation, by slice and for the volume.

    Only lesion inside the lung mask counts; pixels of label 255 (ignore) count neither as lung nor as lesion.

    Args:
        label: label map, shape (X, Y, Z).
        lung: lung mask, not 0 in the lung, shape (X, Y, Z).

    Returns:
        Percent, 0 to 100.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> infection_percent(np.array([[[1, 0], [2, 0], [3, 0]]]), np.array([[[1, 1], [1, 1], [0, 0]]]))
        InfectionPercent(volume=50.0, slices=array([100.,   0.]))
    """
    if label.shape != lung.shape:
        raise ValueError(
            f"Expected label map and lung mask on one grid, got {label.shape} and {lung.shape}. Resample the lung mask."
        )
    counted_lung = (lung != 0) & (label != IGNORE_LABEL)
    lung_pixels = counted_lung.sum(axis=(0, 1))
    infected_pixels = (counted_lung & np.isin(label, INFECTION_LABELS)).sum(axis=(0, 1))
    return InfectionPercent(
        float(_percent(infected_pixels.sum(), lung_pixels.sum())), _percent(infected_pixels, lung_pixels)
    )


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, 100.0 * part / np.maximum(whole, 1), np.nan)
