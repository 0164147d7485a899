from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from custom_components.datasets.placing import aerated_share, check_on_lungs, place_masks
from custom_components.transforms.lungs.lung_mask import lung_mask
from monai.data import MetaTensor
from nibabel.orientations import apply_orientation, inv_ornt_aff

from tests.datasets.published import chest, flipped, whole_lung
from tests.real_data import real_data

PHANTOM = chest(3)
LUNG = whole_lung(PHANTOM)


def tensor(array, affine):
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(array, np.float32))[None], affine=torch.from_numpy(affine))


def image():
    return tensor(PHANTOM.image_hu, PHANTOM.affine)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("mirrored", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_mask_with_a_correct_header_is_placed_by_it(order, mirrored):
    turn = np.array([[axis, -1 if axis in mirrored else 1] for axis in order])
    stored = tensor(apply_orientation(LUNG, turn), PHANTOM.affine @ inv_ornt_aff(turn, LUNG.shape))
    placed = place_masks(image(), {"lung": stored}, "lung", "one")
    np.testing.assert_array_equal(placed.masks["lung"], LUNG)
    assert not placed.as_stored


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_with_a_flipped_header_the_voxels_are_matched_in_order(axis):
    _, header = flipped(LUNG, PHANTOM.affine, axis)
    masks = {"lung": tensor(LUNG, header), "label": tensor(PHANTOM.label, PHANTOM.affine)}
    placed = place_masks(image(), masks, "lung", "one")
    np.testing.assert_array_equal(placed.masks["lung"], LUNG)
    np.testing.assert_array_equal(placed.masks["label"], PHANTOM.label)
    assert placed.as_stored


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lesion_mask_with_a_flipped_header_is_placed_inside_the_lungs(axis):
    _, header = flipped(LUNG, PHANTOM.affine, axis)
    masks = {"label": tensor(PHANTOM.label, header), "lung": tensor(*flipped(LUNG, PHANTOM.affine, 1))}
    placed = place_masks(image(), masks, "lung", "one")
    np.testing.assert_array_equal(placed.masks["lung"], LUNG)
    np.testing.assert_array_equal(placed.masks["label"], PHANTOM.label)
    assert not placed.as_stored


def test_an_empty_mask_stays_empty():
    masks = {"lung": tensor(LUNG, PHANTOM.affine), "label": tensor(LUNG * 0, PHANTOM.affine)}
    assert not place_masks(image(), masks, "lung", "one").masks["label"].any()


def test_voxels_that_fit_are_accepted_with_a_header_far_away():
    assert place_masks(image(), {"lung": tensor(LUNG, np.eye(4))}, "lung", "one").as_stored


def test_a_mask_of_another_size_is_rejected():
    with pytest.raises(ValueError, match="Case one: lung is 64 x 56 x 25 but the image is 64 x 56 x 26"):
        place_masks(image(), {"lung": tensor(LUNG[..., :-1], PHANTOM.affine)}, "lung", "one")


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mirrored_mask_is_rejected(axis):
    with pytest.raises(ValueError, match=rf"Case one: .* when it is mirrored along axis {axis}"):
        place_masks(image(), {"lung": tensor(np.flip(LUNG, axis), PHANTOM.affine)}, "lung", "one")


def test_a_mask_of_fractions_is_rejected_and_not_treated_as_empty():
    masks = {"lung": tensor(LUNG, PHANTOM.affine), "label": tensor(PHANTOM.infection / 255, PHANTOM.affine)}
    with pytest.raises(ValueError, match=r"Case one: the largest value of label is 0\.0039\d+\. Expected 1 or more"):
        place_masks(image(), masks, "lung", "one")


def test_an_empty_lung_mask_is_rejected():
    with pytest.raises(ValueError, match="Case one: the lung mask is empty"):
        place_masks(image(), {"lung": tensor(LUNG * 0, PHANTOM.affine)}, "lung", "one")


@pytest.mark.slow
@pytest.mark.real_data
def test_on_real_cts_a_mirrored_lung_mask_fits_clearly_worse_than_the_correct_one():
    files = [*real_data("lung_ct").glob("*.npz"), *real_data("effusion_ct").glob("*.npz")]
    assert len(files) == 12
    for path in files:
        data = np.load(path)
        hu = (data["ct"].astype(np.int16) * 8 - 1350).transpose(2, 1, 0)
        spacing_mm = tuple(map(float, data["spacing_mm"][::-1])) if "spacing_mm" in data.files else (1.95, 1.95, 3.0)
        lung = data["lung"].transpose(2, 1, 0) if "lung" in data.files else lung_mask(hu, spacing_mm)
        check_on_lungs(hu, lung, "lung", path.stem)
        mirrors = [axes for count in (1, 2, 3) for axes in combinations(range(3), count)]
        best = max(aerated_share(hu, np.flip(lung, axes), path.stem) for axes in mirrors)
        assert aerated_share(hu, lung, path.stem) > best + 0.15
