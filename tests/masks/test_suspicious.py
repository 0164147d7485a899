import nibabel as nib
import numpy as np
import pytest
from custom_components.masks.suspicious import suspicious_masks

AFFINE = np.diag([-2.0, -3.0, 5.0, 1.0])  # x to the patient's left, y to posterior, z to superior
SHAPE = (60, 50, 40)
BORDERS = {
    "right": (np.s_[:40, 10:40, 5:35], 135),  # 30 x 3 mm x 30 x 5 mm
    "left": (np.s_[20:, 10:40, 5:35], 135),
    "front": (np.s_[10:50, :30, 5:35], 120),
    "back": (np.s_[10:50, 30:, 5:35], 120),
    "lower": (np.s_[10:50, 10:40, :20], 72),
    "upper": (np.s_[10:50, 10:40, 20:], 72),
}


def lungs_at(place) -> np.ndarray:
    lungs = np.zeros(SHAPE, np.uint8)
    lungs[place] = 2
    return lungs


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("order", ["LPS", "RAS", "SLA", "IPR"])
def test_cut_lungs_are_found_at_the_border_that_they_reach_in_any_orientation(border, order):
    place, cm2 = BORDERS[border]
    turn = nib.orientations.ornt_transform(nib.io_orientation(AFFINE), nib.orientations.axcodes2ornt(order))
    stored = nib.apply_orientation(lungs_at(place), turn)
    affine = AFFINE @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    assert "".join(nib.aff2axcodes(affine)) == order
    assert suspicious_masks(stored, 0.1, affine) == (f"lungs are cut at the {border} border of the scan ({cm2} cm2)",)


def test_the_lowest_rim_of_a_lung_is_no_cut():
    """16 x 10 pixels of 6 mm2 are 9.6 cm2, 17 x 10 are 10.2."""
    small, large = (lungs_at(np.s_[10 : 10 + width, 10:20, :]) * (np.arange(40) < 1) for width in (16, 17))
    assert suspicious_masks(small, 0.1, AFFINE) == ()
    assert suspicious_masks(large, 0.1, AFFINE) == ("lungs are cut at the lower border of the scan (10 cm2)",)


@pytest.mark.parametrize(
    ("ratio", "why"),
    [
        (0.0, ("infection is empty",)),
        (1e-6, ()),
        (0.6, ()),
        (0.61, ("infection is 61 % of the lungs, more than 60 %",)),
    ],
)
def test_empty_and_very_large_infections_are_suspicious(ratio, why):
    assert suspicious_masks(lungs_at(np.s_[10:20, 10:20, 10:20]), ratio, AFFINE) == why


def test_known_reasons_come_first():
    lungs = lungs_at(np.s_[10:20, 10:20, 10:20])
    assert suspicious_masks(lungs, 0.0, AFFINE, ["only one lung"]) == ("only one lung", "infection is empty")
