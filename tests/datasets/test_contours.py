import numpy as np
import pytest
from custom_components.datasets.contours import contour_mask, read_structures
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.published import contours_of, write_rtstruct
from tests.reference.polygons import is_inside

# Voxels of 2 x 3 x 5 mm, to Left, Posterior, Superior.
AFFINE = np.array([[-2.0, 0, 0, 10], [0, -3.0, 0, 20], [0, 0, 5.0, -30], [0, 0, 0, 1]])
SHAPE = (7, 6, 4)


def at(points, k):
    """Voxel indices x, y of slice k in patient position (LPS, mm)."""
    return np.array([[-10 + 2 * x, -20 + 3 * y, -30 + 5 * k] for x, y in points], float)


def box(low, high):
    return [(low, low), (high, low), (high, high), (low, high)]


def test_a_contour_within_another_is_a_hole_and_one_next_to_it_is_not():
    contours = [at(box(0.5, 5.5), 1), at(box(1.5, 3.5), 1), at([(5.6, 0.6), (6.4, 0.6), (6.4, 1.4), (5.6, 1.4)], 1)]
    expected = np.zeros(SHAPE, bool)
    expected[1:6, 1:6, 1] = True
    expected[2:4, 2:4, 1] = False
    expected[6, 1, 1] = True
    np.testing.assert_array_equal(contour_mask(contours, AFFINE, SHAPE, "one"), expected)


def test_a_hole_connected_by_a_keyhole_is_a_hole():
    outer, hole = [(0.5, 0.5), (5.5, 0.5), (5.5, 5.4), (0.5, 5.4)], [(1.5, 1.5), (1.5, 3.5), (3.5, 3.5), (3.5, 1.5)]
    mask = contour_mask([at([*outer, (0.5, 1.5), *hole, (0.5, 1.5)], 2)], AFFINE, SHAPE, "one")[..., 2]
    assert not mask[2:4, 2:4].any()
    assert mask[1:6, 1:6].sum() == 25 - 4


def test_a_contour_that_occurs_twice_counts_once():
    contours = [at(box(0.5, 3.5), 0)] * 2
    assert contour_mask(contours, AFFINE, SHAPE, "one").sum() == 9


def test_contours_are_cropped_to_the_image():
    assert contour_mask([at(box(3.5, 40.5), 3)], AFFINE, SHAPE, "one").sum() == 3 * 2
    assert contour_mask([at(box(20.5, 40.5), 3)], AFFINE, SHAPE, "one").sum() == 0


_corner = st.tuples(st.floats(-1, 7, allow_nan=False), st.floats(-1, 6, allow_nan=False))


@given(st.lists(st.lists(_corner, min_size=3, max_size=6), min_size=1, max_size=3))
def test_the_mask_equals_the_oracle(polygons):
    polygons = [[(x + 1e-3 / 7, y + 1e-3 / 3) for x, y in polygon] for polygon in polygons]
    unique = [polygon for number, polygon in enumerate(polygons) if polygon not in polygons[:number]]
    mask = contour_mask([at(polygon, 2) for polygon in polygons], AFFINE, SHAPE, "one")[..., 2]
    wrong = [(x, y) for x in range(7) for y in range(6) if mask[x, y] != is_inside(x, y, unique) and _far(x, y, unique)]
    assert not wrong


def _far(x, y, polygons):
    """Whether a voxel centre is clear of every edge, where rounding could decide."""
    for polygon in polygons:
        for first, second in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            a, b, p = np.array(first), np.array(second), np.array([x, y], float)
            along = np.clip(np.dot(p - a, b - a) / max(np.dot(b - a, b - a), 1e-12), 0, 1)
            if np.linalg.norm(p - a - along * (b - a)) < 1e-6:
                return False
    return True


@given(st.integers(0, 2**32 - 1))
def test_the_contours_of_a_mask_give_the_mask_back(seed):
    mask = np.random.default_rng(seed).random((9, 8, 3)) < 0.6
    found = contour_mask(contours_of(mask, AFFINE), AFFINE, mask.shape, "one")
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("k", [1.5, 0.7, -1, 4])
def test_a_contour_outside_the_slices_is_rejected(k):
    with pytest.raises(ValueError, match=r"Case one: a contour lies at slice .* of 4\. Expected contours in the sl"):
        contour_mask([at(box(0.5, 3.5), k)], AFFINE, SHAPE, "one")


def test_structures_are_found_by_number_and_by_the_letters_of_their_names(tmp_path):
    square = at(box(0.5, 3.5), 1)
    structures = {"Heart": [square + 1], "Lung L": [square], "Esophagus": []}
    found = read_structures(write_rtstruct(tmp_path / "1-1.dcm", "one", structures, "1.9"), "one")
    assert set(found) == {"heart", "lungl", "esophagus"}
    np.testing.assert_allclose(found["lungl"].contours, [square], atol=1e-3)
    assert (found["lungl"].frame, found["esophagus"].contours) == ("1.9", [])


def test_a_file_that_is_not_an_rtstruct_is_rejected(tmp_path):
    (tmp_path / "1-1.dcm").write_bytes(b"x" * 200)
    with pytest.raises(ValueError, match="Case one: the RTSTRUCT cannot be read"):
        read_structures(tmp_path / "1-1.dcm", "one")
