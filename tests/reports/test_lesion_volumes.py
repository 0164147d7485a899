import numpy as np
import pytest
from custom_components.reports.display import voxel_volume_ml
from custom_components.reports.lesions import infection_percent, lesion_volumes_ml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LABELS = hnp.arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
LUNGS = hnp.arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 1, 2]))


def test_an_anisotropic_volume_worked_out_by_hand():
    label = np.zeros((5, 6, 7), dtype=np.uint8)
    label[0, 0, :4] = 1
    label[1, :2, 0] = 3
    volumes = lesion_volumes_ml(label, np.diag([-0.7, -0.8, 5.0, 1.0]))
    assert volumes == pytest.approx({"ground_glass": 0.0112, "consolidation": 0, "pleural_effusion": 0.0056})


@given(st.floats(-3, 3))
def test_turning_the_patient_keeps_the_volume(angle):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert voxel_volume_ml(turn @ np.diag([2, 3, 4, 1])) == pytest.approx(0.024)


def test_where_the_origin_lies_does_not_matter():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-100, 200, 300]
    assert voxel_volume_ml(affine) == 0.024


@given(LABELS, LUNGS)
@settings(max_examples=30, deadline=None)
def test_infection_equals_a_loop_over_pixels(label, lung):
    infected = counted = 0
    for place in np.ndindex(label.shape):
        if lung[place] and label[place] != 255:
            counted += 1
            infected += label[place] in (1, 2)
    expected = 100 * infected / counted if counted else np.nan
    assert infection_percent(label, lung) == pytest.approx(expected, nan_ok=True)


@given(LABELS, LUNGS)
@settings(max_examples=20, deadline=None)
def test_effusion_and_what_lies_outside_the_lung_are_no_infection(label, lung):
    cleaned = np.where((label == 3) | ((lung == 0) & (label != 255)), 0, label)
    assert infection_percent(label, lung) == pytest.approx(infection_percent(cleaned, lung), nan_ok=True)


def test_without_lung_there_is_no_percentage():
    assert np.isnan(infection_percent(np.ones((5, 6, 7)), np.zeros((5, 6, 7))))


def test_a_lung_mask_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(5, 6, 7\) and \(5, 6, 8\). Resample the lung mask"):
        infection_percent(np.zeros((5, 6, 7)), np.zeros((5, 6, 8)))
