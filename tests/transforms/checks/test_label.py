import numpy as np
import pytest
import torch
from custom_components.transforms.checks.label import CheckLabeld
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor

ALLOWED = (0, 1, 2, 3, 255)


def label_of(values, name="/data/masks/012.nii.gz"):
    return MetaTensor(torch.as_tensor(values), meta={"filename_or_obj": name})


@given(arrays.arrays(np.uint8, (1, 2, 3), elements=st.sampled_from(ALLOWED)))
def test_allowed_labels_pass_unchanged_in_any_type(values):
    check = CheckLabeld(keys="label")
    for dtype in (torch.uint8, torch.int64, torch.float32, torch.float64):
        label = torch.tensor(values).to(dtype)
        assert check({"label": label})["label"] is label
    assert check({"label": values})["label"] is values


@given(arrays.arrays(np.uint8, (1, 3, 4)))
def test_it_rejects_exactly_the_values_outside_the_allowed_set(values):
    unknown = sorted(set(values.ravel().tolist()) - set(ALLOWED))
    check = CheckLabeld(keys="label")
    if not unknown:
        check({"label": torch.tensor(values)})
        return
    count = int((values == unknown[0]).sum())
    with pytest.raises(ValueError, match=f"has value {unknown[0]} at {count} pixels?[. ]"):
        check({"label": torch.tensor(values)})


def test_the_message_names_the_case_the_value_and_the_labels():
    values = torch.zeros(1, 5, 6, 7)
    values[0, 1:4, 2, :5] = 7
    message = (
        r"Case 012: label has value 7 at 15 pixels. Expected 0 \(background\), 1 \(ground glass\), "
        r"2 \(consolidation\), 3 \(pleural effusion\) or 255 \(ignore\). Check the label export."
    )
    with pytest.raises(ValueError, match=message):
        CheckLabeld(keys="label")({"label": label_of(values)})


def test_further_values_are_counted():
    with pytest.raises(ValueError, match=r"value 4 at 2 pixels \(and 2 more such values\)"):
        CheckLabeld(keys="label")({"label": label_of([[[9, 4, 4, 100, 3]]])})


@pytest.mark.parametrize("value", [0.5, 1.0001, float("nan"), float("inf"), -1.0])
def test_values_that_are_not_integers_are_rejected(value):
    with pytest.raises(ValueError, match=f"label has value {value:g} at 1 pixel"):
        CheckLabeld(keys="label")({"label": torch.tensor([[[0.0, 1.0, value]]])})


def test_only_the_allowed_values_are_allowed():
    check = CheckLabeld(keys="lung", allowed=(0, 1))
    with pytest.raises(ValueError, match=r"lung has value 2 at 1 pixel. Expected 0 \(background\) or 1 "):
        check({"lung": torch.tensor([[[0, 1, 2]]])})


@pytest.mark.parametrize("shape", [(1, 6, 5, 7), (1, 5, 6, 6), (1, 5, 6), (2, 5, 6, 7)])
def test_a_label_of_another_size_than_its_image_is_rejected(shape):
    data = {"image": torch.zeros(1, 5, 6, 7), "label": label_of(torch.zeros(shape))}
    message = r"Case 012: label has \d channel.* Expected 1 channel of the image's size \(5, 6, 7\)"
    with pytest.raises(ValueError, match=message):
        CheckLabeld(keys="label")(data)


def test_an_image_of_several_channels_has_one_label():
    CheckLabeld(keys="label")({"image": torch.zeros(3, 5, 6), "label": torch.zeros(1, 5, 6)})


def test_the_case_id_of_the_datalist_is_preferred():
    with pytest.raises(ValueError, match="Case patient 7: "):
        CheckLabeld(keys="label")({"case_id": "patient 7", "label": label_of([[[9]]])})


def test_a_missing_label_is_an_error_unless_allowed():
    with pytest.raises(KeyError, match="label"):
        CheckLabeld(keys="label")({})
    assert CheckLabeld(keys="label", allow_missing_keys=True)({"case_id": "1"}) == {"case_id": "1"}
