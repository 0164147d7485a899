import numpy as np
from custom_components.phantom.body.airways import LUMEN_HU, WALL_HU, accompanying_bronchi, central_airways
from custom_components.phantom.body.grid import random_field
from custom_components.phantom.body.lesions import Chest, Lesions
from custom_components.phantom.body.shapes import coverage, paint
from custom_components.phantom.body.tubes import Tubes, tube_coverage
from custom_components.phantom.body.vessels import lung_vessels

GROUND_GLASS_RISE_HU = (110.0, 460.0)


def paint_lungs(image_hu: np.ndarray, chest: Chest, lesions: Lesions, rng: np.random.Generator) -> None:
    """Draw both lungs into an image (X, Y, Z) in HU: parenchyma, infection, vessels, bronchi, and the fluid around.

    Vessels are painted over ground-glass, where they stay visible, and bronchi over consolidation, as air bronchograms.
    The random numbers do not depend on the lesions, so the same patient without lesions is otherwise identical.
    """
    grid, anatomy = chest.grid, chest.anatomy
    inside = coverage(chest.cavity_mm, grid.edge_mm)
    paint(image_hu, _parenchyma(chest, lesions, rng), inside)
    arteries, veins = lung_vessels(anatomy, rng)
    bronchi = accompanying_bronchi(arteries)
    for tubes, value_hu in (
        (Tubes.joined([arteries, veins]), anatomy.blood_hu),
        (bronchi.thickened(0.25 + 0.3 * bronchi.radius_mm), WALL_HU),
        (bronchi, LUMEN_HU),
    ):
        paint(image_hu, value_hu, tube_coverage(grid, tubes) * inside)
    if "pleural_effusion" in lesions.opacity:
        paint(image_hu, 14.0, lesions.opacity["pleural_effusion"] * inside)
    trachea = central_airways(anatomy)
    paint(image_hu, anatomy.soft_hu, tube_coverage(grid, trachea.thickened(1.5)) * (1.0 - inside))
    paint(image_hu, LUMEN_HU, tube_coverage(grid, trachea))


def _parenchyma(chest: Chest, lesions: Lesions, rng: np.random.Generator) -> np.ndarray:
    """HU of the lung tissue, denser in dependent and in diseased lung."""
    points = chest.grid.points
    coarse, fine = random_field(points, rng, 22.0), random_field(points, rng, 2.2)
    dependent = 0.35 * points.y + 110.0 * rng.random() * np.exp(-chest.cage_mm / 5.0) * (points.y > 30.0)
    lung = chest.anatomy.lung_hu + dependent + 14.0 * coarse + 12.0 * fine
    _add_fissures(lung, chest, rng)
    rise = rng.uniform(*GROUND_GLASS_RISE_HU) * (1.0 + 0.22 * random_field(points, rng, 15.0) + 0.16 * fine)
    dense = 5.0 + 30.0 * random_field(points, rng, 8.0)
    if "ground_glass" in lesions.opacity:
        lung += lesions.opacity["ground_glass"] * np.clip(rise, 60.0, 560.0)
    if "consolidation" in lesions.opacity:
        paint(lung, dense, lesions.opacity["consolidation"])
    return lung


def _add_fissures(lung: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """Add the oblique fissure of each lung, a thin sheet."""
    points, edge = chest.grid.points, chest.grid.edge_mm
    wave = 4.0 * random_field(points, rng, 35.0)
    height = points.z * 0.75 + points.y + wave - np.where(points.x > 0, 12.0, 2.0)
    lung += 170.0 * min(1.0, 1.2 / edge) * coverage(0.6 - 0.8 * np.abs(height), edge)
