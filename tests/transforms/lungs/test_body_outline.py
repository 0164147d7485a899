"""The outline on bodies of simple shapes, where the right answer is known voxel by voxel."""

from functools import cache

import numpy as np
import pytest
from custom_components.phantom import make_volume
from custom_components.transforms.lungs.body_outline import body_outline
from custom_components.transforms.lungs.lung_mask import lung_mask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

AIR, FAT, TISSUE, LUNG = -1000.0, -90.0, 40.0, -850.0
SHAPE, SPACING_MM = (84, 76, 24), (5.0, 4.6, 7.0)
PHANTOM_SHAPE, PHANTOM_MM = (90, 78, 46), (4.2, 4.1, 6.1)

rarely = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def place(shape=SHAPE, spacing_mm=SPACING_MM):
    """x to Left, y to Posterior, z to Superior, in mm from the middle."""
    axes = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape, spacing_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij", sparse=True)


def ellipse(x, y, middle, radii, z=0.0):
    return ((x - middle[0]) / radii[0]) ** 2 + ((y - middle[1]) / radii[1]) ** 2 + 0 * z < 1


def chest(shape=SHAPE, spacing_mm=SPACING_MM, wall_mm=24.0):
    """A trunk of 340 x 220 mm with two lungs: HU, the trunk, the lungs. Its back ends at y = 90 mm."""
    x, y, z = place(shape, spacing_mm)
    trunk = ellipse(x, y, (0, -20), (170, 110), z)
    inner = ellipse(x, y, (0, -20), (170 - wall_mm, 110 - wall_mm), z)
    lung = inner & (abs(x) > 34) & (z > z.min() + 20)
    hu = np.where(lung, LUNG, np.where(trunk, np.where(inner, TISSUE, FAT), AIR))
    return hu, trunk, lung


def with_table(
    hu, spacing_mm, kind, foam_hu, plate_mm=6.0, gap_mm=0.0, height_mm=60.0, half_width_mm=400.0, back_mm=90.0
):
    """A hollow table under the back; where it was air, so that the body stays."""
    x, y, _ = place(hu.shape, spacing_mm)
    top = back_mm + gap_mm - (0.0012 * x**2 if kind == "curved" else 0.0)
    below = np.broadcast_to(y - top, hu.shape)
    table = (below > 0) & (below < height_mm + 2 * plate_mm) & np.broadcast_to(abs(x) < half_width_mm, hu.shape)
    hollow = (below > plate_mm) & (below < height_mm + plate_mm)
    hollow &= np.broadcast_to(abs(x) < half_width_mm - plate_mm, hu.shape)
    return np.where(table & (hu == AIR), np.where(hollow, foam_hu, -80.0), hu)


tables = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["flat", "curved"]),
        "foam_hu": st.sampled_from([-1000.0, -960.0, -900.0, -800.0, -650.0, -500.0]),
        "plate_mm": st.floats(4.6, 8.0),
        "gap_mm": st.sampled_from([0.0, 12.0]),
        "height_mm": st.floats(20.0, 120.0),
        "half_width_mm": st.sampled_from([150.0, 190.0, 400.0]),
    }
)


@rarely
@given(table=tables)
def test_the_body_excludes_a_hollow_table_and_includes_the_whole_chest(table):
    hu, trunk, lung = chest()
    found = body_outline(with_table(hu, SPACING_MM, **table), SPACING_MM)
    _, y, _ = place()
    assert not found[np.broadcast_to(y > 90 + 2 * table["plate_mm"] + table["gap_mm"] + SPACING_MM[1], SHAPE)].any()
    assert found[lung].all()
    assert (found & trunk).sum() > 0.97 * trunk.sum()


@rarely
@given(table=tables, axes=st.sets(st.integers(0, 2), min_size=1), seed=st.integers(0, 99))
def test_the_outline_of_a_flipped_scan_is_flipped(table, axes, seed):
    hu = with_table(chest()[0], SPACING_MM, **table)
    hu = hu + np.random.default_rng(seed).normal(0, 30, hu.shape)
    flipped = body_outline(np.flip(hu, tuple(axes)), SPACING_MM)
    assert np.array_equal(np.flip(flipped, tuple(axes)), body_outline(hu, SPACING_MM))


@rarely
@given(spacing_mm=st.tuples(st.floats(3.0, 6.0), st.floats(3.0, 6.0), st.floats(3.0, 10.0)), table=tables)
def test_voxels_of_any_shape_give_the_same_body(spacing_mm, table):
    shape = tuple(int(np.ceil(size / step)) for size, step in zip((420, 360, 160), spacing_mm, strict=True))
    hu, trunk, lung = chest(shape, spacing_mm)
    table = {**table, "plate_mm": max(table["plate_mm"], 1.2 * spacing_mm[1])}
    found = body_outline(with_table(hu, spacing_mm, **table), spacing_mm)
    assert found[lung].all()
    assert (found & trunk).sum() > 0.96 * trunk.sum()
    assert (found & ~trunk).sum() < 0.06 * trunk.sum()


@cache
def phantom():
    return make_volume(5, PHANTOM_SHAPE, PHANTOM_MM, {"consolidation": 300.0})


@cache
def bare():
    """The phantom's HU without its own table and with room for another, where its back ends in mm, and its lungs."""
    hu = phantom().image_hu.copy()
    hu[~body_outline(hu, PHANTOM_MM)] = AIR
    hu = np.pad(hu, ((0, 0), (0, 36), (0, 0)), constant_values=AIR)
    back = place(hu.shape, PHANTOM_MM)[1][0, np.flatnonzero((hu > -200).any(axis=(0, 2))).max(), 0]
    return hu, float(back), lung_mask(hu, PHANTOM_MM)


@rarely
@given(table=tables)
def test_a_table_changes_no_voxel_of_the_lungs(table):
    hu, back_mm, lungs = bare()
    lying = with_table(hu, PHANTOM_MM, **table, back_mm=back_mm)
    assert (lying != hu).sum() > 1000
    assert np.array_equal(lung_mask(lying, PHANTOM_MM), lungs)


@pytest.mark.parametrize("wall_mm", [6.0, 10.0])
def test_lungs_behind_a_thin_chest_wall_are_body(wall_mm):
    hu, trunk, lung = chest(wall_mm=wall_mm)
    belly = trunk & (place()[2] < -40)
    hu[belly], lung = TISSUE, lung & ~belly
    assert body_outline(with_table(hu, SPACING_MM, "curved", -900.0), SPACING_MM)[lung].all()


def test_low_dose_noise_removes_nothing_from_the_body():
    hu, trunk, lung = chest()
    noisy = with_table(hu, SPACING_MM, "flat", -900.0) + np.random.default_rng(3).normal(0, 120, SHAPE)
    found = body_outline(noisy, SPACING_MM)
    _, y, _ = place()
    assert found[lung].mean() > 0.99
    assert found[trunk].mean() > 0.96
    assert not found[np.broadcast_to(y > 110, SHAPE)].any()


def test_lungs_cut_by_a_circular_field_of_view_are_body():
    shape, spacing_mm = (70, 70, 24), (4.0, 4.0, 7.0)
    x, y, _ = place(shape, spacing_mm)
    hu, _, lung = chest(shape, spacing_mm)
    field = np.broadcast_to(np.hypot(x, y) < 140, shape)
    found = body_outline(np.where(field, hu, -1024.0), spacing_mm)
    assert (lung & ~field).sum() > 500
    assert found[lung & np.broadcast_to(np.hypot(x, y) < 128, shape)].all()
    assert not found[~field].any()


def test_lungs_cut_by_the_border_of_the_image_are_body():
    hu, _, lung = chest()
    first = np.flatnonzero(lung.any(axis=(1, 2)))[0] + 5
    hu = with_table(hu, SPACING_MM, "flat", -900.0)[first:-first]
    assert body_outline(hu, SPACING_MM)[lung[first:-first]].all()


def test_lungs_that_are_open_in_the_first_and_last_slice_are_body():
    hu, _, lung = chest()
    open_at_both_ends = slice(5, None)
    assert lung[:, :, 5].any()
    assert lung[:, :, -1].any()
    assert body_outline(hu[:, :, open_at_both_ends], SPACING_MM)[lung[:, :, open_at_both_ends]].all()


@pytest.mark.parametrize("under_hu", [-1000.0, -900.0])
def test_air_under_a_blanket_is_not_body(under_hu):
    hu, _, _ = chest()
    x, y, z = place()
    dome = ellipse(x, y, (0, -20), (180, 150), z) & (hu == AIR)
    hu = np.where(dome, under_hu, hu)
    hu[dome & ~ellipse(x, y, (0, -20), (174, 144), z)] = -300.0  # the cloth, which ends on the body at both sides
    found = body_outline(hu, SPACING_MM)
    assert not found[np.broadcast_to(y < -135, SHAPE)].any()


def test_a_foam_pocket_between_trunk_and_arms_is_not_lung():
    """The arms lie beside the trunk on the table, and foam fills what is between."""
    hu, back_mm, lungs = bare()
    x, y, _ = place(hu.shape, PHANTOM_MM)
    half_mm = x[np.flatnonzero((hu > -200).any(axis=(1, 2))).max(), 0, 0]
    low = np.broadcast_to((y > back_mm - 70) & (y < back_mm), hu.shape) & (hu == AIR)
    pocket = low & (abs(x) < half_mm - 4)
    hu = np.where(pocket, -850.0, np.where(low, TISSUE, hu))
    found = lung_mask(with_table(hu, PHANTOM_MM, "flat", -900.0, back_mm=back_mm), PHANTOM_MM)
    assert pocket.sum() > 1000
    assert not found[pocket].any()
    assert 2 * (found & lungs).sum() > 0.99 * (found.sum() + lungs.sum())


def test_an_image_of_only_air_or_only_tissue_is_all_body():
    assert body_outline(np.full((9, 10, 11), 40.0), SPACING_MM).all()
    assert body_outline(np.full((9, 10, 11), AIR), SPACING_MM).all()
