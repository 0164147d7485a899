import numpy as np
import pytest
import torch
from custom_components.metrics.lesion_scores import _count, dice
from custom_components.metrics.mask_scores import mask_scores
from scipy import ndimage

SPACING_MM = (1.5, 2.0, 3.0)
TOLERANCE_MM = {"lung": 2.5, "infection": 1.0}


def labels(*boxes, shape=(14, 13, 12)):
    label = torch.zeros(shape)
    for value, box in boxes:
        label[box] = value
    return label


LUNG = (1, np.s_[2:9, 3:10, 1:8])
LESION = (2, np.s_[4:7, 4:8, 3:6])


def surface_dice(predicted, truth, tolerance_mm):
    """Share of the border voxels within the tolerance of the other border, voxel by voxel."""
    cross = ndimage.generate_binary_structure(3, 1)
    borders = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (predicted, truth)]
    places = [np.argwhere(border) * SPACING_MM for border in borders]
    near = [
        sum(min(np.linalg.norm(other - place, axis=1)) <= tolerance_mm for place in own)
        for own, other in (places, places[::-1])
    ]
    return sum(near) / sum(len(own) for own in places)


def test_the_truth_scores_one():
    truth = labels(LUNG, LESION)
    scores = mask_scores(truth, truth, SPACING_MM, TOLERANCE_MM)
    assert [scores[f"{score}_{name}"] for score in ("dice", "surface_dice") for name in TOLERANCE_MM] == [1.0] * 4
    assert scores["ml_lung_true"] == scores["ml_lung_pred"] == pytest.approx(343 * 9 / 1000)


def test_infected_lung_is_lung():
    healthy, infected = labels(LUNG), labels(LUNG, LESION)
    scores = mask_scores(healthy, infected, SPACING_MM, TOLERANCE_MM)
    assert (scores["dice_lung"], scores["surface_dice_lung"]) == (1.0, 1.0)
    assert (scores["dice_infection"], scores["surface_dice_infection"]) == (0.0, 0.0)
    assert (scores["ml_infection_pred"], scores["ml_infection_true"]) == (0.0, pytest.approx(36 * 9 / 1000))


def test_a_mask_empty_in_both_has_no_score():
    scores = mask_scores(labels(LUNG), labels(LUNG), SPACING_MM, TOLERANCE_MM)
    assert scores["dice_infection"] is None
    assert scores["surface_dice_infection"] is None


@pytest.mark.parametrize("predicted", [True, False], ids=["in vain", "missed"])
def test_what_is_in_only_one_scores_zero_as_the_lesions_do(predicted):
    one, other = labels(LUNG, LESION), labels(LUNG)
    scores = mask_scores(*((one, other) if predicted else (other, one)), SPACING_MM, TOLERANCE_MM)
    assert (scores["dice_infection"], scores["surface_dice_infection"]) == (0.0, 0.0)
    counts = _count(*((mask == 2).long() for mask in ((one, other) if predicted else (other, one))))
    assert dice(counts)[1] == scores["dice_infection"]
    assert list(scores)[4:] == ["dice_infection", "surface_dice_infection", "ml_infection_true", "ml_infection_pred"]


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 0)])
def test_scores_equal_a_count_voxel_by_voxel(shift):
    truth = labels(LUNG, LESION)
    predicted = torch.roll(truth, shift, (0, 1, 2))
    scores = mask_scores(predicted, truth, SPACING_MM, TOLERANCE_MM)
    for name, least in (("lung", 1), ("infection", 2)):
        masks = [(label >= least).numpy() for label in (predicted, truth)]
        both = (masks[0] & masks[1]).sum()
        assert scores[f"dice_{name}"] == pytest.approx(2 * both / sum(mask.sum() for mask in masks))
        wanted = surface_dice(*masks, TOLERANCE_MM[name])
        assert scores[f"surface_dice_{name}"] == pytest.approx(wanted, abs=0.02)


def test_a_shift_within_the_tolerance_along_its_axis_costs_no_surface():
    truth = labels(LUNG)
    near, far = (torch.roll(truth, 1, axis) for axis in (1, 2))  # by 2 mm and by 3 mm
    assert mask_scores(near, truth, SPACING_MM, TOLERANCE_MM)["surface_dice_lung"] == 1.0
    assert mask_scores(far, truth, SPACING_MM, TOLERANCE_MM)["surface_dice_lung"] < 0.9


def test_different_grids_are_rejected():
    with pytest.raises(ValueError, match="Expected both on one grid"):
        mask_scores(torch.zeros(4, 5, 6), torch.zeros(4, 5, 7), SPACING_MM, TOLERANCE_MM)
