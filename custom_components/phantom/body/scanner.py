import numpy as np
from custom_components.phantom.body.grid import Grid
from custom_components.phantom.body.lesions import Chest
from custom_components.phantom.body.shapes import coverage, paint
from scipy import ndimage

AIR_HU = -1000.0
LOWEST_HU, HIGHEST_HU = -1024.0, 3071.0
POINT_SPREAD_MM = 0.7


def paint_table(image_hu: np.ndarray, chest: Chest) -> None:
    """Draw the curved table under the patient: two thin shells around foam."""
    grid, anatomy = chest.grid, chest.anatomy
    x, y, _ = grid.points
    back = 7.0 + anatomy.cage_mm[1] + anatomy.muscle_mm + anatomy.fat_mm + 3.0
    below = y - (back + 6.0 - x * x / 1400.0)
    foam = np.minimum(np.minimum(below, 22.0 - below), 210.0 - np.abs(x))
    paint(image_hu, -250.0, coverage(foam, grid.edge_mm))
    paint(image_hu, -940.0, coverage(foam - 2.2, grid.edge_mm))


def acquire(image_hu: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Simulate the scanner on an ideal image (X, Y, Z): blur, correlated noise, round field of view, range of values.

    Returns:
        Image in HU, float32, within [-1024, 3071].
    """
    in_plane = (POINT_SPREAD_MM / grid.spacing_mm[0], POINT_SPREAD_MM / grid.spacing_mm[1], 0.0)
    sharp = ndimage.gaussian_filter(image_hu.astype(np.float32), in_plane)
    noise = ndimage.gaussian_filter(rng.standard_normal(grid.shape, np.float32), (0.55, 0.55, 0.0))
    level_hu = np.exp(rng.uniform(np.log(14.0), np.log(55.0)))
    image = sharp + np.float32(level_hu / max(float(noise.std()), 1e-6)) * noise
    if rng.random() < 0.3:
        x, y, _ = grid.points
        radius_mm = max(float(np.abs(x).max()), float(np.abs(y).max())) + grid.edge_mm / 2
        image = np.where(x * x + y * y > radius_mm**2, np.float32(LOWEST_HU), image)
    return np.clip(image, LOWEST_HU, HIGHEST_HU)
