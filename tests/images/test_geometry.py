from itertools import permutations, product

import numpy as np
import pytest
import torch
from custom_components.images.ct_reader import ImageHeader
from custom_components.images.geometry import mask_mismatch, mask_on_image
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from nibabel.orientations import apply_orientation, inv_ornt_aff
from scipy.spatial.transform import Rotation

SHAPE = (4, 5, 6)
ORIENTATIONS = [np.array([order, signs]).T for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


UPRIGHT = Rotation.identity()


def affine_of(rotation=UPRIGHT, spacing_mm=(0.7, 0.8, 2.5), origin_mm=(-120.0, 90.0, -300.0)):
    affine = np.eye(4)
    affine[:3, :3] = rotation.as_matrix() @ np.diag(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def volume(array, affine):
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array))[None], affine=torch.from_numpy(affine))


rotations = st.tuples(*[st.floats(-180, 180)] * 3).map(lambda angles: Rotation.from_euler("xyz", angles, degrees=True))


@given(rotations, st.sampled_from(ORIENTATIONS))
def test_a_mask_comes_back_voxel_for_voxel_however_it_is_stored(rotation, stored):
    """Also where the axes lie at 45 degrees between two directions of the body."""
    voxels, affine = np.arange(np.prod(SHAPE)).reshape(SHAPE), affine_of(rotation)
    mask = volume(apply_orientation(voxels, stored), affine @ inv_ornt_aff(stored, SHAPE))

    found = mask_on_image(mask, volume(voxels, affine), "lung", "012")

    np.testing.assert_array_equal(found[0], voxels)
    np.testing.assert_array_equal(found.affine, affine)


@given(st.sampled_from(ORIENTATIONS), st.integers(0, 2), st.sampled_from([-1, 1]))
def test_a_mask_that_is_shifted_by_a_voxel_is_refused_however_it_is_stored(stored, axis, step):
    voxels, affine = np.zeros(SHAPE), affine_of()
    beside = affine.copy()
    beside[:3, 3] += step * affine[:3, axis]
    mask = volume(apply_orientation(voxels, stored), beside @ inv_ornt_aff(stored, SHAPE))

    with pytest.raises(
        ValueError, match=r"^Case 012: lung is misaligned with the image by up to \d.\d mm. Copy the image's header"
    ):
        mask_on_image(mask, volume(voxels, affine), "lung", "012")


@given(st.floats(1, 30), rotations)
def test_a_rotation_about_the_diagonal_leaves_two_corners_and_is_seen_at_the_others(degrees, rotation):
    affine = affine_of(rotation)
    shape = (100, 100, 40)
    ends = affine @ np.array([[0, 0, 0, 1], [*(size - 1 for size in shape), 1]]).T
    diagonal = (ends[:, 1] - ends[:, 0])[:3]
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * diagonal / np.linalg.norm(diagonal)).as_matrix()
    turned = affine.copy()
    turned[:3, :3] = turn @ affine[:3, :3]

    np.testing.assert_allclose(turned @ np.array([*(size - 1 for size in shape), 1]), ends[:, 1], atol=1e-9)
    assert "is misaligned with the image" in mask_mismatch(ImageHeader(shape, affine), ImageHeader(shape, turned))


def test_another_sampling_of_the_same_space_is_refused():
    image, fine = ImageHeader((8, 8, 4), affine_of()), affine_of(spacing_mm=(0.35, 0.4, 2.5))

    assert mask_mismatch(image, ImageHeader((16, 16, 4), fine)).startswith("is 16 x 16 x 4 but the image is 8 x 8 x 4.")
    assert "is misaligned with the image" in mask_mismatch(image, ImageHeader((8, 8, 4), fine))


def test_a_slice_has_the_place_of_its_plane_alone():
    """What a file of one slice says of its thickness does not matter."""
    thin, thick = affine_of(), affine_of(spacing_mm=(0.7, 0.8, 1.0))

    assert mask_mismatch(ImageHeader((8, 9, 1), thin), ImageHeader((8, 9, 1), thick)) == ""


def test_what_has_no_place_stays_as_it_is():
    mask = torch.ones(1, 2, 3, 4)

    assert mask_on_image(mask, volume(np.zeros(SHAPE), affine_of()), "lung", "012") is mask
