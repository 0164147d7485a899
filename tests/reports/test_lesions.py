import numpy as np
import pytest
import torch
from custom_components.reports.display import voxel_volume_ml
from custom_components.reports.lesions import CaseLesions, describe_lesions, infection_percent, lesion_volumes_ml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from monai.transforms import Orientation

ORIENTATIONS = ["LPS", "RAS", "LAS", "PSL", "SLP", "IRA", "ARI"]
LABELS = hnp.arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 1, 2, 3, 255]))
LUNGS = hnp.arrays(np.uint8, (5, 6, 7), elements=st.sampled_from([0, 1, 2]))


def stored_as(array, affine, orientation):
    """The array and affine of one patient as a file of another orientation holds them."""
    to_ras = Orientation(axcodes=orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))
    turned = to_ras(MetaTensor(torch.tensor(array)[None], affine=torch.tensor(affine)))
    return turned[0].numpy(), turned.affine.numpy()


def case_of(label, affine=None, **more):
    affine = np.diag([-0.5, -2.0, 10.0, 1.0]) if affine is None else affine
    return CaseLesions("012", np.zeros(label.shape, np.float32), label, affine, **more)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_display_does_not_depend_on_the_storage_order(orientation):
    label = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)
    affine = np.diag([-0.5, -2.0, 10.0, 1.0])
    file_label, file_affine = stored_as(label, affine, orientation)
    case = case_of(file_label, file_affine)
    assert np.array_equal(case.label, label)
    assert describe_lesions(case)["lesions"] == describe_lesions(case_of(label, affine))["lesions"]
    assert case.display.spacing_mm == pytest.approx((0.5, 2.0, 10.0))
    for z, index in enumerate(case.slice_indices):
        in_file = np.take(file_label, index, axis=case.display.slice_axis)
        assert np.array_equal(np.sort(in_file, axis=None), np.sort(label[..., z], axis=None))


def test_slice_indices_are_those_of_the_file():
    label = np.zeros((5, 6, 7), dtype=np.uint8)
    label[2, 3, 1] = 1
    upside_down = np.diag([-0.5, -2.0, -10.0, 1.0])
    report = describe_lesions(case_of(label, upside_down))
    assert report["slices_with_lesions"] == [1]
    assert [entry["index"] for entry in report["slices"]] == list(range(7))
    assert report["slices"][1]["pixels"] == {"ground_glass": 1, "consolidation": 0, "pleural_effusion": 0}


def test_a_report_worked_out_by_hand():
    label = np.zeros((5, 6, 7), dtype=np.uint8)
    label[0, :4, 3] = 1
    label[0, 4, 3] = 2
    label[4, :, 5] = 3
    lung = np.zeros_like(label)
    lung[:2, :, 3:5] = 1
    report = describe_lesions(case_of(label, lung=lung))
    assert report["geometry"] == {"shape": [5, 6, 7], "spacing_mm": [0.5, 2.0, 10.0], "slice_axis": 2}
    assert report["lesions"]["ground_glass"] == {
        "pixels": 4,
        "volume_ml": pytest.approx(0.04),
        "percent_of_lung": pytest.approx(100 * 4 / 24),
    }
    assert report["lesions"]["pleural_effusion"] == {"pixels": 6, "volume_ml": pytest.approx(0.06)}
    assert report["lung"] == {"pixels": 24, "volume_ml": pytest.approx(0.24)}
    assert report["infection_percent_of_lung"] == pytest.approx(100 * 5 / 24)
    assert report["slices"][3]["infection_percent_of_lung"] == pytest.approx(100 * 5 / 12)
    assert report["slices"][4]["infection_percent_of_lung"] == 0
    assert report["slices"][5]["infection_percent_of_lung"] is None
    assert report["slices_with_lesions"] == [3, 5]
    assert report["notes"] == []


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_slices_add_up_to_the_volume(seed):
    label = np.random.default_rng(seed).integers(0, 4, (5, 6, 7))
    report = describe_lesions(case_of(label))
    for name, lesion in report["lesions"].items():
        assert sum(entry["pixels"][name] for entry in report["slices"]) == lesion["pixels"]
        assert sum(entry["volume_ml"][name] for entry in report["slices"]) == pytest.approx(lesion["volume_ml"])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_percentages_are_those_of_infection_percent(seed):
    random = np.random.default_rng(seed)
    label, lung = random.integers(0, 4, (5, 6, 7)), random.integers(0, 2, (5, 6, 7))
    lung[..., 0] = 0
    report, expected = describe_lesions(case_of(label, lung=lung)), infection_percent(label, lung)
    assert report["infection_percent_of_lung"] == pytest.approx(expected)
    assert report["slices"][0]["infection_percent_of_lung"] is None
    for z in range(1, 7):
        by_slice = infection_percent(label[..., z], lung[..., z])
        assert report["slices"][z]["infection_percent_of_lung"] == pytest.approx(by_slice)


def test_without_spacing_pixels_are_counted_and_volumes_unknown():
    report = describe_lesions(case_of(np.ones((5, 6, 1), dtype=np.uint8), has_spacing=False))
    assert report["lesions"]["ground_glass"]["pixels"] == 30
    assert report["lesions"]["ground_glass"]["volume_ml"] is None
    assert report["geometry"]["spacing_mm"] is None
    assert "no pixel size" in report["notes"][0]


def test_lesion_outside_the_lung_mask_is_noted():
    lung = np.zeros((5, 6, 1))
    lung[0] = 1
    notes = describe_lesions(case_of(np.ones((5, 6, 1)), lung=lung))["notes"]
    assert notes == ["24 infected pixels are outside the lung mask and not included in the percentages."]


@pytest.mark.parametrize(("lung", "note"), [(None, "No lung mask"), (np.zeros((5, 6, 1)), "lung mask is empty")])
def test_without_lung_the_percentage_is_unknown_with_a_note(lung, note):
    report = describe_lesions(case_of(np.ones((5, 6, 1)), lung=lung))
    assert report["infection_percent_of_lung"] is None
    assert note in report["notes"][0]


@pytest.mark.parametrize("value", [0.5, 4, 255])
def test_a_prediction_that_is_not_a_label_map_is_rejected(value):
    label = np.zeros((5, 6, 7))
    label[1, 2, 3:5] = value
    with pytest.raises(ValueError, match=f"Case 012: prediction has value {value} at 2 pixels.*AsDiscreted"):
        case_of(label)


def test_arrays_on_different_grids_are_refused():
    with pytest.raises(ValueError, match=r"Case 012: .*CT \(5, 6, 7\), prediction \(5, 6, 7\), lung mask \(5, 6, 8\)"):
        case_of(np.zeros((5, 6, 7)), lung=np.zeros((5, 6, 8)))


def test_an_anisotropic_volume_worked_out_by_hand():
    label = np.zeros((5, 6, 7), dtype=np.uint8)
    label[0, 0, :4] = 1
    label[1, :2, 0] = 3
    volumes = lesion_volumes_ml(label, np.diag([-0.7, -0.8, 5.0, 1.0]))
    assert volumes == pytest.approx({"ground_glass": 0.0112, "consolidation": 0, "pleural_effusion": 0.0056})


@given(st.floats(-3, 3))
def test_rotation_and_origin_do_not_change_the_volume(angle):
    turn = np.eye(4)
    turn[:2, :2], turn[:3, 3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], [-100, 200, 300]
    assert voxel_volume_ml(turn @ np.diag([2, 3, 4, 1])) == pytest.approx(0.024)


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
def test_effusion_and_lesions_outside_the_lung_are_not_infection(label, lung):
    cleaned = np.where((label == 3) | ((lung == 0) & (label != 255)), 0, label)
    assert infection_percent(label, lung) == pytest.approx(infection_percent(cleaned, lung), nan_ok=True)


def test_a_lung_mask_on_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(5, 6, 7\) and \(5, 6, 8\). Resample the lung mask"):
        infection_percent(np.zeros((5, 6, 7)), np.zeros((5, 6, 8)))
