import numpy as np
from custom_components.phantom.body.grid import Grid, Points, random_field
from custom_components.phantom.body.shapes import coverage, ellipsoid, paint, smooth_intersection, smooth_union
from custom_components.phantom.body.tubes import Tubes, tube_coverage
from custom_components.phantom.body.vessels import MURRAY_EXPONENT, grow_tree
from hypothesis import given
from hypothesis import strategies as st

FINITE = st.floats(-50, 50)


@given(FINITE, FINITE, st.floats(0.1, 20))
def test_a_smooth_union_is_symmetric_and_never_smaller_than_the_union(first, second, fillet):
    union = smooth_union(np.float64(first), np.float64(second), fillet)
    assert union >= max(first, second)
    assert union <= max(first, second) + fillet / 4 + 1e-9
    assert union == smooth_union(np.float64(second), np.float64(first), fillet)
    if abs(first - second) >= fillet:
        assert union == max(first, second)


@given(FINITE, FINITE, st.floats(0.1, 20))
def test_a_smooth_intersection_is_never_larger_than_the_intersection(first, second, fillet):
    assert smooth_intersection(np.float64(first), np.float64(second), fillet) <= min(first, second)


@given(st.floats(0, 2 * np.pi), st.floats(0, np.pi), st.sampled_from([2.0, 2.3, 4.0]))
def test_the_surface_of_an_ellipsoid_is_at_distance_0(turn, tilt, power):
    direction = np.array([np.cos(turn) * np.sin(tilt), np.sin(turn) * np.sin(tilt), np.cos(tilt)])
    semi, centre = np.array([5.0, 6.0, 7.0]), np.array([1.0, -2.0, 3.0])
    reach = (np.abs(direction / semi) ** power).sum() ** (-1 / power)
    for step in (-1.0, 0.0, 2.0):
        at = Points(*(centre + (reach + step) * direction))
        np.testing.assert_allclose(ellipsoid(at, centre, semi, power), -step, atol=0.02)


def test_a_voxel_on_the_surface_is_half_covered():
    np.testing.assert_allclose(coverage(np.array([-0.5, 0.0, 0.25, 0.5]), 1.0), [0.0, 0.5, 0.75, 1.0])


def test_painting_mixes_by_coverage():
    image = np.array([-1000.0, -1000.0, -1000.0])
    paint(image, 40.0, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(image, [-1000, -480, 40])


def test_a_grid_is_anisotropic_and_centred():
    grid = Grid.centred((33, 34, 3), (2.0, 3.0, 5.0), level_mm=40.0)
    assert grid.points.x.ravel()[[0, -1]].tolist() == [-32.0, 32.0]
    assert grid.points.y.ravel()[[0, -1]].tolist() == [-49.5, 49.5]
    assert grid.points.z.ravel().tolist() == [35.0, 40.0, 45.0]
    assert grid.voxel_ml == 0.03


def test_a_random_field_equals_its_sum_of_cosines():
    grid = Grid.centred((32, 33, 4), (2.0, 3.0, 5.0))
    rng = np.random.default_rng(5)
    waves, phase = rng.normal(scale=1 / 9.0, size=(3, 6)), rng.uniform(0, 2 * np.pi, size=6)
    expected = np.zeros(grid.shape)
    for k in range(6):
        x, y, z = (axis.astype(np.float64) * waves[i, k] for i, axis in enumerate(grid.points))
        expected += np.sqrt(2 / 6) * np.cos(x + y + z + phase[k])
    got = random_field(grid.points, np.random.default_rng(5), 9.0, modes=6)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_random_field_has_unit_variance_and_its_length():
    grid = Grid.centred((64, 60, 1), (4.0, 4.0, 5.0))
    fields = np.stack([random_field(grid.points, np.random.default_rng(seed), 20.0) for seed in range(60)])
    assert abs(fields.std() - 1) < 0.06
    assert abs((fields[:, 5:] * fields[:, :-5]).mean() - np.exp(-0.5)) < 0.08


def test_a_tube_covers_the_volume_of_a_cylinder():
    grid = Grid.centred((64, 60, 40), (0.5, 0.6, 0.7))
    tube = Tubes(np.array([[-4.0, -3.0, -40.0]]), np.array([[-4.0, -3.0, 40.0]]), np.array([4.0]))
    covered = tube_coverage(grid, tube).sum() * grid.voxel_ml * 1000
    np.testing.assert_allclose(covered, np.pi * 16 * 28.0, rtol=0.03)


def test_a_tube_is_between_its_ends():
    grid = Grid.centred((40, 44, 9), (2.0, 2.0, 3.0))
    cover = tube_coverage(grid, Tubes(np.array([[-20.0, 10.0, 6.0]]), np.array([[0.0, 10.0, 6.0]]), np.array([3.0])))
    x, y, z = (axis.ravel() for axis in grid.points)
    filled = np.nonzero(cover > 0.5)
    assert x[filled[0]].min() >= -24
    assert x[filled[0]].max() <= 4
    assert abs(y[filled[1]].mean() - 10) < 0.6
    assert abs(z[filled[2]].mean() - 6) < 0.6


def test_a_thin_tube_is_visible_only_in_the_slice_that_it_crosses():
    grid = Grid.centred((40, 40, 5), (2.0, 2.0, 10.0))
    cover = tube_coverage(grid, Tubes(np.array([[-20.0, 0.0, 13.0]]), np.array([[20.0, 0.0, 13.0]]), np.array([1.0])))
    assert (cover.max(axis=(0, 1)) > 0).tolist() == [False, False, False, True, False]


def test_a_tree_reaches_every_leaf_from_its_root_and_obeys_murrays_law():
    rng = np.random.default_rng(0)
    root, leaves = np.zeros(3), rng.uniform(10, 60, size=(25, 3))
    tree = grow_tree(root, leaves, rng)
    assert len(tree) == 50
    stops = {tuple(stop) for stop in tree.stop_mm}
    assert all(tuple(leaf) in stops for leaf in leaves)
    assert all(tuple(start) in stops | {(0.0, 0.0, 0.0)} for start in tree.start_mm)
    leaf_radius = tree.radius_mm.min()
    at_root = (tree.start_mm == 0).all(axis=1)
    np.testing.assert_allclose((tree.radius_mm[at_root] ** MURRAY_EXPONENT).sum(), 25 * leaf_radius**MURRAY_EXPONENT)
