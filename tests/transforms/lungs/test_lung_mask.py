from functools import cache

import numpy as np
import pytest
from custom_components.images.ct_reader import CTReader
from custom_components.phantom import make_volume
from custom_components.transforms.lungs.fallback_lung_mask import FallbackLungMaskd
from custom_components.transforms.lungs.lung_mask import lung_mask
from monai.transforms import LoadImaged
from scipy import ndimage

from tests.real_data import real_data

SHAPE, SPACING_MM = (90, 78, 46), (4.2, 4.1, 6.1)

HEALTHY: tuple = ()
GLASS = (("ground_glass", 400.0),)
CONSOLIDATION = (("consolidation", 500.0),)
HEAVY = (("consolidation", 900.0), ("ground_glass", 600.0))
EFFUSION = (("pleural_effusion", 500.0),)
ALL = (("ground_glass", 300.0), ("consolidation", 400.0), ("pleural_effusion", 400.0))


@cache
def phantom_of(seed, lesions=HEALTHY):
    return make_volume(seed, SHAPE, SPACING_MM, dict(lesions))


@cache
def mask_of(seed, lesions=HEALTHY):
    return lung_mask(phantom_of(seed, lesions).image_hu, SPACING_MM)


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def positions_mm(shape, spacing_mm):
    """x to Left, y to Posterior, z to Superior of the phantom's middle."""
    axes = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape, spacing_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij", sparse=True)


@pytest.mark.parametrize(
    ("seed", "lesions", "floor"),
    [
        (0, HEALTHY, 0.98),
        (5, HEALTHY, 0.98),
        (2, GLASS, 0.96),
        (0, CONSOLIDATION, 0.95),
        (5, CONSOLIDATION, 0.95),
        (5, HEAVY, 0.92),
        (1, EFFUSION, 0.93),
        (3, ALL, 0.93),
    ],
)
def test_the_mask_agrees_with_the_true_lungs(seed, lesions, floor):
    assert dice(mask_of(seed, lesions), phantom_of(seed, lesions).lung) > floor


@pytest.mark.parametrize("seed", [0, 5])
def test_most_of_a_basal_consolidation_is_included_although_thresholds_miss_it(seed):
    phantom = phantom_of(seed, CONSOLIDATION)
    dense = phantom.label == 2
    assert (phantom.image_hu[dense] < -400).mean() < 0.25
    assert mask_of(seed, CONSOLIDATION)[dense].mean() > 0.5


@pytest.mark.parametrize("lesions", [HEALTHY, HEAVY])
def test_little_outside_the_lungs_is_included(lesions):
    phantom = phantom_of(5, lesions)
    beside = (mask_of(5, lesions) > 0) & (phantom.lung == 0)
    assert beside.sum() < 0.02 * phantom.lung.sum()


@pytest.mark.parametrize("seed", [0, 5])
def test_the_trachea_is_excluded(seed):
    x, y, z = positions_mm(SHAPE, SPACING_MM)
    lumen = (phantom_of(seed).image_hu < -900) & (abs(x) < 14) & (abs(y - 8) < 22) & (z > 45) & (z < 130)
    assert lumen.sum() > 60
    assert not mask_of(seed)[lumen].any()


@pytest.mark.parametrize("seed", [0, 5])
def test_stomach_gas_is_excluded(seed):
    x, y, z = positions_mm(SHAPE, SPACING_MM)
    gas = (phantom_of(seed).image_hu < -800) & (abs(x - 58) < 25) & (abs(y + 34) < 14) & (abs(z + 118) < 13)
    assert gas.sum() > 50
    assert not mask_of(seed)[gas].any()


def test_bowel_gas_that_touches_the_lung_is_excluded():
    image, lung = phantom_of(5).image_hu.copy(), phantom_of(5).lung
    x, y, _ = positions_mm(SHAPE, SPACING_MM)
    column = lung.any(axis=2) & (((x - 75) ** 2 + (y + 15) ** 2) < 20**2)[..., 0]
    base = np.where(column, lung.argmax(axis=2), -99)
    level = np.arange(SHAPE[2])
    bowel = column[..., None] & (level < base[..., None]) & (level >= base[..., None] - 8)
    image[bowel] = -1000.0
    mask = lung_mask(image, SPACING_MM)
    assert bowel.sum() * np.prod(SPACING_MM) / 1000 > 40
    assert mask[bowel].mean() < 0.1
    assert dice(mask, lung) > 0.97


def test_a_hollow_table_with_foam_as_dense_as_lung_is_excluded():
    image = phantom_of(0).image_hu.copy()
    _, y, _ = positions_mm(SHAPE, SPACING_MM)
    body_end = np.flatnonzero((image > -100).any(axis=2).sum(axis=0) > 30).max()
    top = y[0, body_end, 0] - 14.0
    below = np.broadcast_to(y - top, SHAPE)
    image[(below > 0) & (image < -300)] = -850.0
    image[[0, -1]] = np.where(below[[0, -1]] > 0, -50.0, image[[0, -1]])
    image[:, -1] = -50.0
    mask = lung_mask(image, SPACING_MM)
    assert not mask[np.broadcast_to(below > 0, SHAPE)].any()
    assert dice(mask, phantom_of(0).lung) > 0.97


def test_right_and_left_lung_are_two_bodies_of_like_size():
    labels, count = ndimage.label(mask_of(2, GLASS))
    sizes = np.bincount(labels.ravel())[1:]
    assert count == 2
    assert sizes.min() > 0.7 * sizes.max()


@pytest.mark.parametrize("seed", [0, 5])
def test_vessels_and_small_holes_are_filled(seed):
    mask = mask_of(seed) > 0
    assert np.array_equal(ndimage.binary_fill_holes(mask), mask)
    vessels = ndimage.binary_erosion(phantom_of(seed).lung, iterations=2) & (phantom_of(seed).image_hu > -300)
    assert vessels.sum() > 10
    assert mask[vessels].mean() > 0.98


def test_a_dome_of_the_diaphragm_is_not_filled_like_a_vessel():
    """Within a slice it is an island in the lung."""
    image = phantom_of(0).image_hu.copy()
    x, y, z = positions_mm(SHAPE, SPACING_MM)
    axis_mm = np.hypot(x + 80, y - 10)
    image[(axis_mm < 24) & (z < 25)] = 50.0
    core = (axis_mm < 14) & (z < 15)
    mask = lung_mask(image, SPACING_MM)
    assert phantom_of(0).lung[core & (z > -50)].all()
    assert not mask[core].any()


def test_a_mirrored_patient_has_the_mirrored_mask():
    mirrored = lung_mask(phantom_of(5, CONSOLIDATION).image_hu[::-1], SPACING_MM)
    assert dice(mirrored[::-1], mask_of(5, CONSOLIDATION)) > 0.999


@pytest.mark.parametrize("spacing_mm", [(3.2, 4.3, 10.0), (5.0, 4.6, 3.1)])
def test_the_volume_does_not_depend_on_the_voxel_size(spacing_mm):
    fields_mm = np.multiply(SHAPE, SPACING_MM)
    shape = tuple(np.rint(fields_mm / spacing_mm).astype(int).tolist())
    phantom = make_volume(5, shape, spacing_mm, {})
    mask = lung_mask(phantom.image_hu, spacing_mm)
    assert dice(mask, phantom.lung) > 0.97
    assert mask.sum() * np.prod(spacing_mm) == pytest.approx(mask_of(5).sum() * np.prod(SPACING_MM), rel=0.03)


def test_a_field_of_view_that_cuts_the_lung_keeps_the_rest_of_it():
    first = np.flatnonzero(phantom_of(5).lung.any(axis=(1, 2)))[0] + 6
    image, lung = phantom_of(5).image_hu[first:], phantom_of(5).lung[first:]
    assert dice(lung_mask(image, SPACING_MM), lung) > 0.95


def test_the_image_is_not_changed():
    image = phantom_of(5).image_hu.copy()
    lung_mask(image, SPACING_MM)
    assert np.array_equal(image, phantom_of(5).image_hu)


def test_an_image_without_a_chest_is_rejected():
    x, y, z = positions_mm((50, 52, 40), (4.0, 4.0, 5.0))
    head = np.where((x / 75) ** 2 + (y / 90) ** 2 + (z / 95) ** 2 < 1, 40.0, -1000.0)
    head[20:30, 10:14, 15:20] = -1000.0
    with pytest.raises(ValueError, match=r"Case unknown: no plausible lungs found: 0\.0\d litres"):
        lung_mask(head, (4.0, 4.0, 5.0))


def test_a_spacing_in_the_wrong_unit_is_rejected():
    with pytest.raises(ValueError, match=r"Case c7: no plausible lungs found: \d{3,}\.\d\d litres"):
        lung_mask(phantom_of(5).image_hu, [10 * step for step in SPACING_MM], case="c7")


def test_an_invalid_shape_or_spacing_is_rejected():
    with pytest.raises(ValueError, match=r"shape \(1, 5, 6, 7\)\. Expected one volume \(X, Y, Z\) in HU"):
        lung_mask(np.zeros((1, 5, 6, 7)), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"voxel size is \(1.0, 0.0, 1.0\) mm. Expected three positive numbers"):
        lung_mask(np.zeros((5, 6, 7)), (1.0, 0.0, 1.0))


@cache
def _public_case(folder):
    image = LoadImaged(keys="image", reader=CTReader, ensure_channel_first=True)({"image": str(folder)})
    return image["image"][0].numpy(), FallbackLungMaskd()(image)["lung"]


@pytest.fixture
def public_case():
    folder = real_data("covid_ct_md")
    return lambda name: _public_case(folder / name)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["P001", pytest.param("cap001", marks=pytest.mark.slow)])
def test_the_lungs_of_a_public_case_measure_about_six_litres(public_case, name):
    image, lung = public_case(name)
    litres = float(lung.sum()) * abs(np.linalg.det(lung.affine[:3, :3])) / 1e6
    assert 5.7 < litres < 6.5
    assert (image[lung[0].numpy() > 0] < -500).mean() > 0.87  # its border is drawn at -200 HU


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "place", "voxel"),
    [
        ("P001", "trachea", (238, 228, 128)),
        ("cap001", "trachea", (235, 214, 133)),
        ("cap001", "oesophagus", (252, 249, 133)),
        ("cap001", "bowel", (374, 212, 6)),
    ],
)
def test_other_gas_of_a_public_case_is_excluded(public_case, name, place, voxel):
    image, lung = public_case(name)
    assert image[voxel] < -900, place
    assert lung[(0, *voxel)] == 0


@pytest.mark.real_data
def test_subpleural_consolidation_of_a_public_case_is_included(public_case):
    image, lung = public_case("cap001")
    dense = ndimage.uniform_filter(image[170:185, 398:404, 105], 3)
    assert dense.mean() > -150
    assert lung[0, 170:185, 398:404, 105].numpy().mean() > 0.8
