from itertools import permutations, product

import numpy as np
import pytest
from custom_components.labels import LEFT, RIGHT
from custom_components.phantom import make_volume
from custom_components.transforms.lungs.left_right import left_right_lungs
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy import ndimage

SPACING_MM = (4.0, 4.4, 6.0)
LPS = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])


@pytest.fixture(scope="module")
def phantom():
    return make_volume(seed=3, shape=(96, 80, 44), spacing_mm=SPACING_MM)


def truth_of(mask, affine=LPS):
    """The parts of a mask in two pieces, by the side of the patient on which each lies."""
    labels, count = ndimage.label(mask)
    assert count == 2
    sides = np.zeros_like(labels)
    for value in (1, 2):
        middle = affine @ [*ndimage.center_of_mass(labels == value), 1]
        sides[labels == value] = LEFT if middle[0] < 0 else RIGHT
    return sides


def bodies(bridge=0):
    """Two ellipsoids, x to Left, and a bridge of some voxels between them."""
    x, y, z = np.indices((72, 50, 41))
    right = ((x - 18) / 13) ** 2 + ((y - 25) / 18) ** 2 + ((z - 20) / 17) ** 2 < 1
    left = ((x - 52) / 12) ** 2 + ((y - 24) / 18) ** 2 + ((z - 20) / 16) ** 2 < 1
    between = (abs(y - 12) < bridge) & (abs(z - 22) < bridge) & (x > 18) & (x < 52)
    return right, left, between


def test_the_lungs_of_a_phantom_are_separated(phantom):
    sides = left_right_lungs(phantom.lung, phantom.affine)
    assert sides.dtype == np.uint8
    np.testing.assert_array_equal(sides > 0, phantom.lung > 0)
    np.testing.assert_array_equal(sides, truth_of(phantom.lung, phantom.affine))


@pytest.mark.parametrize("axes", list(permutations(range(3)))[::2])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_the_storage_order_changes_nothing(axes, signs):
    right, left, _ = bodies()
    orientation = np.array([axes, signs]).T
    stored, affine = apply_orientation(right | left, orientation), LPS @ inv_ornt_aff(orientation, right.shape)
    wanted = apply_orientation(right * RIGHT + left * LEFT, orientation)
    np.testing.assert_array_equal(left_right_lungs(stored, affine), wanted)


@pytest.mark.parametrize("bridge", [1, 2, 3])
def test_touching_lungs_are_separated(bridge):
    right, left, between = bodies(bridge)
    sides = left_right_lungs(right | left | between, LPS)
    np.testing.assert_array_equal(sides > 0, right | left | between)
    apart = right | left
    assert (sides == right * RIGHT + left * LEFT)[apart].mean() > 0.99


def test_specks_belong_to_the_nearest_lung():
    right, left, _ = bodies()
    specks = np.zeros_like(right)
    specks[3, 25, 20] = specks[69, 25, 20] = True
    sides = left_right_lungs(right | left | specks, LPS)
    assert (sides[3, 25, 20], sides[69, 25, 20]) == (RIGHT, LEFT)


@pytest.mark.parametrize(("side", "mirrored"), product((LEFT, RIGHT), (False, True)))
def test_a_single_lung_has_the_side_of_the_body_on_which_it_lies(side, mirrored):
    right, left, _ = bodies()
    lung = left if side == LEFT else right
    body = np.ones_like(lung)
    affine = LPS
    if mirrored:
        lung, affine = lung[::-1], LPS @ inv_ornt_aff(np.array([[0, -1], [1, 1], [2, 1]]), lung.shape)
    for trunk in (None, body):
        assert set(np.unique(left_right_lungs(lung, affine, trunk))) == {0, side}


def test_the_body_decides_the_side_of_a_single_lung():
    _, left, _ = bodies()
    body = np.zeros_like(left)
    body[45:] = True
    lung = left & (np.indices(left.shape)[0] < 56)
    assert set(np.unique(left_right_lungs(lung, LPS))) == {0, LEFT}
    assert set(np.unique(left_right_lungs(lung, LPS, body))) == {0, RIGHT}


def test_an_empty_mask_stays_empty():
    assert not left_right_lungs(np.zeros((5, 6, 7)), LPS).any()


def test_a_fine_mask_is_separated_voxel_by_voxel():
    right, left, _ = bodies()
    fine = LPS @ np.diag([0.25, 0.5, 1.0, 1.0])
    repeat = [array.repeat(4, 0).repeat(2, 1) for array in (right, left)]
    np.testing.assert_array_equal(left_right_lungs(repeat[0] | repeat[1], fine), repeat[0] * RIGHT + repeat[1] * LEFT)


def test_a_mask_that_is_not_a_volume_is_rejected():
    with pytest.raises(ValueError, match=r"Expected a lung mask \(X, Y, Z\)"):
        left_right_lungs(np.zeros((5, 6)), LPS)
