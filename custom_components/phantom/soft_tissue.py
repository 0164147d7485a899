import numpy as np
from custom_components.phantom.anatomy import Anatomy
from custom_components.phantom.grid import Grid
from custom_components.phantom.random_field import random_field
from custom_components.phantom.shapes import coverage, ellipsoid, paint

FAT_HU = -100.0


def paint_chest_wall(
    image_hu: np.ndarray, grid: Grid, anatomy: Anatomy, cage_mm: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw skin, subcutaneous fat and the muscles with the fat planes between them.

    Args:
        image_hu: image of shape (X, Y, Z), changed in place.
        grid: its voxel centres.
        anatomy: the patient.
        cage_mm: signed distance of the rib cage at the voxels, positive inside.
        rng: source of the texture.
    """
    body = anatomy.body(grid.points)
    texture = random_field(grid.points, rng, 14.0)
    paint(image_hu, anatomy.soft_hu, coverage(body, grid.edge_mm))
    paint(image_hu, FAT_HU + 6.0 * texture, coverage(body - 2.0, grid.edge_mm))
    under_fat = body - anatomy.fat_mm * (1.0 + 0.12 * texture)
    paint(image_hu, anatomy.soft_hu + 5.0 * texture, coverage(under_fat, grid.edge_mm))
    for depth_mm in (13.0, 25.0):
        plane = 1.3 - np.abs(-cage_mm - depth_mm - 2.5 * texture)
        paint(image_hu, FAT_HU, 0.8 * coverage(np.minimum(plane, under_fat), grid.edge_mm))


def paint_inner_organs(
    image_hu: np.ndarray, grid: Grid, anatomy: Anatomy, cage_mm: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw what the rib cage holds beside the lungs: mediastinal fat, heart, great vessels, liver and stomach.

    Args:
        image_hu: image of shape (X, Y, Z), changed in place.
        grid: its voxel centres.
        anatomy: the patient.
        cage_mm: signed distance of the rib cage at the voxels, positive inside.
        rng: source of the texture.
    """
    points, edge = grid.points, grid.edge_mm
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
