import numpy as np
from custom_components.phantom.body.anatomy import Anatomy
from custom_components.phantom.body.grid import Grid, Points, random_field
from custom_components.phantom.body.lesions import Chest
from custom_components.phantom.body.shapes import coverage, ellipsoid, paint

RIB_DISTANCE_MM = 27.0
VERTEBRA_MM = 25.0
CORTEX_HU, MARROW_HU = 650.0, 220.0
FAT_HU = -100.0


def paint_skeleton(image_hu: np.ndarray, chest: Chest) -> None:
    """Draw ribs, shoulder blades, sternum and spine into an image (X, Y, Z): cortical bone around marrow."""
    grid, anatomy, outside = chest.grid, chest.anatomy, -chest.cage_mm
    points = grid.points
    angle = np.arctan2(np.abs(points.x), points.y)
    _paint_bone(image_hu, _ribs(points, anatomy, outside, angle), 1.6, grid)
    _paint_bone(image_hu, _shoulder_blades(points, outside, angle), 1.8, grid)
    _paint_bone(image_hu, _sternum(points, anatomy), 1.6, grid)
    _paint_spine(image_hu, grid, anatomy)


def _paint_bone(image_hu: np.ndarray, bone_mm: np.ndarray, cortex_mm: float, grid: Grid) -> None:
    paint(image_hu, CORTEX_HU, coverage(bone_mm, grid.edge_mm))
    paint(image_hu, MARROW_HU, coverage(bone_mm - cortex_mm, grid.edge_mm))


def _ribs(points: Points, anatomy: Anatomy, outside: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Bands around the rib cage that descend from the spine to the front."""
    along = points.z + 30.0 * angle + anatomy.rib_phase * RIB_DISTANCE_MM
    height = (along % RIB_DISTANCE_MM) - RIB_DISTANCE_MM / 2
    rib = (1.0 - np.sqrt(((outside - 6.5) / 4.6) ** 2 + (height / 7.5) ** 2)) * 4.6
    gap = np.minimum(angle - 0.28, 2.55 - angle) * 80.0
    return np.minimum(np.minimum(rib, gap), anatomy.apex_mm + 5.0 - points.z)


def _shoulder_blades(points: Points, outside: np.ndarray, angle: np.ndarray) -> np.ndarray:
    plate = 3.2 - np.abs(outside - 17.0 - 6.0 * np.maximum(points.z, 0.0) / 100.0)
    extent = (0.42 - np.abs(angle - 0.92)) * 80.0
    return np.minimum(np.minimum(plate, extent), points.z + 5.0)


def _sternum(points: Points, anatomy: Anatomy) -> np.ndarray:
    plate = ellipsoid(points, (0.0, -anatomy.cage_mm[1] - 6.0), (17.0, 6.5))
    return np.minimum(np.minimum(plate, points.z + 70.0), 75.0 - points.z)


def _paint_spine(image_hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    points, y = grid.points, anatomy.spine_y_mm
    body = ellipsoid(points, (0.0, y), (17.5, 14.5))
    process = ellipsoid(points, (0.0, y + 36.0), (3.5, 13.0))
    transverse = ellipsoid(points, (0.0, y + 19.0), (31.0, 5.0))
    arch = ellipsoid(points, (0.0, y + 20.0), (13.0, 11.5))
    behind = np.maximum(np.maximum(process, transverse), arch)
    in_disc = np.abs((points.z % VERTEBRA_MM) - VERTEBRA_MM / 2) > VERTEBRA_MM / 2 - 2.5
    _paint_bone(image_hu, np.where(in_disc, -5.0, behind), 1.8, grid)
    _paint_bone(image_hu, body, 1.5, grid)
    paint(image_hu, 90.0, coverage(np.where(in_disc, body, -5.0), grid.edge_mm))
    paint(image_hu, 25.0, coverage(ellipsoid(points, (0.0, y + 19.5), (8.5, 7.5)), grid.edge_mm))


def paint_chest_wall(image_hu: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """Draw skin, subcutaneous fat and the muscles with the fat planes between them into an image (X, Y, Z)."""
    grid, anatomy = chest.grid, chest.anatomy
    body = anatomy.body(grid.points)
    texture = random_field(grid.points, rng, 14.0)
    paint(image_hu, anatomy.soft_hu, coverage(body, grid.edge_mm))
    paint(image_hu, FAT_HU + 6.0 * texture, coverage(body - 2.0, grid.edge_mm))
    under_fat = body - anatomy.fat_mm * (1.0 + 0.12 * texture)
    paint(image_hu, anatomy.soft_hu + 5.0 * texture, coverage(under_fat, grid.edge_mm))
    for depth_mm in (13.0, 25.0):
        plane = 1.3 - np.abs(-chest.cage_mm - depth_mm - 2.5 * texture)
        paint(image_hu, FAT_HU, 0.8 * coverage(np.minimum(plane, under_fat), grid.edge_mm))


def paint_inner_organs(image_hu: np.ndarray, chest: Chest, rng: np.random.Generator) -> None:
    """Draw mediastinal fat, heart, great vessels, liver and stomach into an image (X, Y, Z)."""
    points, edge = chest.grid.points, chest.grid.edge_mm
    anatomy, cage_mm = chest.anatomy, chest.cage_mm
    texture = random_field(points, rng, 9.0)
    paint(image_hu, np.where(texture > 0.7, 20.0, -85.0) + 10.0 * texture, coverage(cage_mm + 1.0, edge))
    paint(image_hu, anatomy.soft_hu, coverage(cage_mm + 1.0, edge) * coverage(2.0 - cage_mm, edge))
    for vessel in (anatomy.heart(points) - 5.0, anatomy.aorta(points), anatomy.great_vessels(points)):
        paint(image_hu, anatomy.blood_hu + 4.0 * texture, coverage(vessel, edge))
    below = -anatomy.above_diaphragm(points)
    abdomen = np.minimum(np.minimum(below, cage_mm), 8.0 - anatomy.heart(points))
    paint(image_hu, np.where(points.x < 20.0, 62.0, 40.0) + 4.0 * texture, coverage(abdomen, edge))
    gas = np.minimum(ellipsoid(points, (58.0, -34.0, -118.0), (30.0, 17.0, 16.0)), below - 8.0)
    paint(image_hu, -950.0, coverage(gas, edge))
