from dataclasses import dataclass

import numpy as np
from custom_components.labels import LESION_CLASSES

INFECTION_CLASSES = ("ground_glass", "consolidation")
# Patient position (LPS) of the middle of the chest, not at the origin, as in a real scan.
ISOCENTRE_MM = (3.5, -168.0, 1045.0)


@dataclass(frozen=True)
class Phantom:
    """A synthetic chest CT with its labels.

    Args:
        image_hu: CT in HU, float32, shape (X, Y, Z), x to the patient's Left, y to Posterior, z to Superior.
        label: 0 background, 1 ground-glass, 2 consolidation, 3 pleural effusion; uint8, shape (X, Y, Z).
        lung: 1 inside either lung, without effusion; uint8, shape (X, Y, Z).
        spacing_mm: voxel size along x, y, z.
        seed: random seed of the phantom.
        centre_mm: patient position (LPS) of the middle of the array.
    """

    image_hu: np.ndarray
    label: np.ndarray
    lung: np.ndarray
    spacing_mm: tuple[float, float, float]
    seed: int
    centre_mm: tuple[float, float, float] = ISOCENTRE_MM

    @property
    def first_voxel_mm(self) -> tuple[float, float, float]:
        """Patient position (LPS) of voxel (0, 0, 0)."""
        x, y, z = (
            round(centre - (count - 1) / 2 * step, 6)
            for centre, count, step in zip(self.centre_mm, self.label.shape, self.spacing_mm, strict=True)
        )
        return x, y, z

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to patient position in RAS mm, 4 x 4, as in NIfTI: x and y run to the left and to the back."""
        mirror = np.array([-1.0, -1.0, 1.0])
        affine = np.diag([*(mirror * self.spacing_mm), 1.0])
        affine[:3, 3] = mirror * self.first_voxel_mm
        return affine

    @property
    def infection(self) -> np.ndarray:
        """Ground-glass and consolidation together: uint8 0/1, shape (X, Y, Z)."""
        values = [LESION_CLASSES.index(name) + 1 for name in INFECTION_CLASSES]
        return np.isin(self.label, values).astype(np.uint8)

    @property
    def lesion_volumes_ml(self) -> dict[str, float]:
        """Volume in ml of each lesion class, by name."""
        voxel_ml = float(np.prod(self.spacing_mm)) / 1000.0
        counts = np.bincount(self.label.ravel(), minlength=len(LESION_CLASSES) + 1)
        return {name: float(counts[value]) * voxel_ml for value, name in enumerate(LESION_CLASSES, start=1)}

    @property
    def infection_ratio(self) -> float:
        """Infection volume / lung volume; 0 without lung."""
        return float(self.infection.sum()) / max(float(self.lung.sum()), 1.0)
