"""Organs of one random patient as signed distances (mm, positive inside)."""

from dataclasses import dataclass

import numpy as np
from custom_components.phantom.body.grid import Points
from custom_components.phantom.body.shapes import ellipsoid, smooth_intersection, smooth_union


@dataclass(frozen=True)
class Anatomy:
    """Measures of one patient in mm and HU; the origin is the middle of the chest.

    Args:
        cage_mm: half width and half depth of the rib cage.
        fat_mm: thickness of the subcutaneous fat.
        muscle_mm: thickness of the chest wall between pleura and fat.
        apex_mm: z of the top of the lungs.
        domes_mm: z of the right and the left diaphragm dome.
        heart_mm: semi-axes of the heart.
        heart_centre_mm: centre of the heart; x > 0 is the patient's left.
        septum_mm: x of the junction line between the lungs.
        carina_mm: position where the trachea splits.
        lung_hu: mean of the aerated lung.
        soft_hu: mean of muscle.
        blood_hu: mean of heart and great vessels.
        rib_phase: height of the ribs as a fraction of their distance.
    """

    cage_mm: tuple[float, float]
    fat_mm: float
    muscle_mm: float
    apex_mm: float
    domes_mm: tuple[float, float]
    heart_mm: tuple[float, float, float]
    heart_centre_mm: tuple[float, float, float]
    septum_mm: float
    carina_mm: tuple[float, float, float]
    lung_hu: float
    soft_hu: float
    blood_hu: float
    rib_phase: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Anatomy":
        """Draw a patient."""

        def around(mean: float, spread: float) -> float:
            return float(mean + rng.uniform(-spread, spread))

        right_dome = around(-62, 12)
        return cls(
            cage_mm=(around(123, 7), around(91, 7)),
            fat_mm=around(13, 6),
            muscle_mm=around(17, 3),
            apex_mm=around(120, 7),
            domes_mm=(right_dome, right_dome - around(14, 6)),
            heart_mm=(around(57, 6), around(47, 5), around(60, 5)),
            heart_centre_mm=(around(20, 5), around(-20, 4), around(-60, 6)),
            septum_mm=around(2, 5),
            carina_mm=(around(-1, 3), around(10, 4), around(24, 6)),
            lung_hu=around(-850, 35),
            soft_hu=around(50, 8),
            blood_hu=around(45, 10),
            rib_phase=around(0.5, 0.5),
        )

    @property
    def spine_y_mm(self) -> float:
        """Y of the middle of the vertebral bodies."""
        return self.cage_mm[1] - 17.0

    def body(self, points: Points) -> np.ndarray:
        """Everything inside the skin."""
        wall = self.muscle_mm + self.fat_mm
        semi = (self.cage_mm[0] + wall, self.cage_mm[1] + wall + 3.0)
        return ellipsoid(points, (0.0, 7.0), semi, power=2.35)

    def cage(self, points: Points) -> np.ndarray:
        """Everything inside the ribs: elliptic, tapering to the apex."""
        height = np.clip((points.z + 30.0) / (self.apex_mm + 34.0), 0.0, 0.998)
        taper = (1.0 - height**2.6) ** (1 / 2.6)
        semi = (self.cage_mm[0] * taper, self.cage_mm[1] * taper**0.7)
        return ellipsoid(points, (0.0, 14.0 * (1.0 - taper)), semi, power=2.25)

    def heart(self, points: Points) -> np.ndarray:
        """Heart with its fat."""
        return ellipsoid(points, self.heart_centre_mm, self.heart_mm)

    def aorta(self, points: Points) -> np.ndarray:
        """Descending aorta, left in front of the spine, and the arch."""
        descending = ellipsoid(points, (23.0, self.spine_y_mm - 23.0), (12.0, 12.0))
        descending = np.minimum(descending, 52.0 - points.z)
        arch = ellipsoid(points, (12.0, 2.0, 48.0), (17.0, 38.0, 14.0))
        return np.maximum(descending, arch)

    def great_vessels(self, points: Points) -> np.ndarray:
        """Ascending aorta, superior vena cava and pulmonary trunk."""
        ascending = np.minimum(ellipsoid(points, (-6.0, -22.0), (15.0, 15.0)), 50.0 - points.z)
        cava = ellipsoid(points, (-24.0, -14.0), (8.5, 10.0))
        pulmonary = ellipsoid(points, (12.0, -16.0, 6.0), (30.0, 15.0, 14.0))
        return np.maximum(np.maximum(ascending, cava), pulmonary)

    def mediastinum(self, points: Points) -> np.ndarray:
        """Everything between the lungs: heart, great vessels, hila, spine and septum."""
        column = ellipsoid(points, (0.0, 0.0), (30.0, self.cage_mm[1] * 0.86))
        spine = ellipsoid(points, (0.0, self.spine_y_mm + 2.0), (25.0, 26.0))
        side = np.where(points.x > 0, 1.0, -1.0).astype(np.float32)
        hila = ellipsoid(points, (38.0 * side, 8.0, 2.0), (13.0, 17.0, 19.0))
        total = np.maximum(column, 5.0 - np.abs(points.x - self.septum_mm))
        for part in (self.heart(points), spine, self.aorta(points) + 4.0, hila):
            total = smooth_union(total, part, 9.0)
        return total

    def above_diaphragm(self, points: Points) -> np.ndarray:
        """Everything above the two domes."""
        right, left = self.domes_mm
        top = np.where(points.x < 0, right, left)
        lateral, behind = np.abs(points.x) - 64.0, points.y + 10.0
        fall = (lateral / np.where(lateral > 0, 74.0, 120.0)) ** 2 + (behind / np.where(behind > 0, 96.0, 150.0)) ** 2
        return ((points.z - top + 48.0 * fall) * 0.75).astype(np.float32)

    def pleural_cavity(self, points: Points, cage_mm: np.ndarray | None = None) -> np.ndarray:
        """The space of both lungs and of the fluid around them.

        Args:
            points: positions in mm.
            cage_mm: result of :meth:`cage` at the points, if it is known.

        Returns:
            Signed distance in mm.
        """
        inside = (self.cage(points) if cage_mm is None else cage_mm) - 1.0
        inside = np.minimum(inside, self.apex_mm - points.z)
        inside = smooth_intersection(inside, -self.mediastinum(points), 9.0)
        return smooth_intersection(inside, self.above_diaphragm(points), 6.0)
