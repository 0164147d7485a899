import math

import numpy as np
import pytest
import torch
from custom_components.transforms.attention_levels import AttentionLevelsd, attention_levels
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

SHAPE = (1, 2, 3, 4)
AFFINE = torch.tensor([[0, -2.0, 0, 5], [3.0, 0, 0, 6], [0, 0, 7.0, 8], [0, 0, 0, 1]], dtype=torch.float64)
ends = st.lists(st.floats(0.01, 1), min_size=1, max_size=6, unique=True).map(sorted)


def maps(us, ss=0.0, **more) -> dict:
    return {"attention_us": torch.full(SHAPE, us), "attention_ss": torch.full(SHAPE, ss), **more}


def level_of(transform, us, ss=0.0, **more) -> float:
    return transform(maps(us, ss, **more))["pred"].unique().item()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), ends)
def test_a_level_is_the_number_of_lower_limits_reached(values, levels_from):
    attention = torch.tensor(values, dtype=torch.float64)
    expected = [sum(value >= end for end in levels_from) for value in values]
    levels = attention_levels(attention, levels_from)
    assert levels.tolist() == levels.to(torch.uint8).tolist() == expected


def test_a_level_begins_at_its_lower_limit():
    assert attention_levels(torch.tensor([0.0, 0.1999, 0.2, 0.4, 0.6, 0.8])).tolist() == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize(("ratio", "weight"), [(0.0009, 0.35), (0.001, 0.96), (0.03, 0.96), (0.2, 0.35)])
def test_a_known_ratio_weights_the_branches_by_eq_5(ratio, weight):
    fine = AttentionLevelsd(levels_from=[i / 250 for i in range(1, 251)])
    assert level_of(fine, 1.0, 0.0, ratio=ratio) == pytest.approx(250 * weight, abs=1)
    assert level_of(fine, 0.0, 1.0, ratio=ratio) == pytest.approx(250 * (1 - weight), abs=1)


@pytest.mark.parametrize("ratio", [{}, {"ratio": None}, {"ratio": math.nan}, {"ratio": torch.tensor(math.nan)}])
def test_an_unknown_ratio_gives_the_mean_of_both(ratio):
    fine = AttentionLevelsd(levels_from=[i / 100 for i in range(1, 101)])
    assert level_of(fine, 0.8, 0.4, **ratio) == pytest.approx(60, abs=1)
    assert level_of(fine, 0.4, 0.8, **ratio) == pytest.approx(60, abs=1)


def test_weights_and_thresholds_are_those_of_the_network():
    transform = AttentionLevelsd(weights=(0.0, 1.0), ratio_thresholds=(0.1, 0.2))
    assert level_of(transform, 1.0, 0.0, ratio=0.15) == 4
    assert level_of(transform, 1.0, 0.0, ratio=0.05) == 0


def test_the_levels_lie_where_the_map_lies():
    """Permuted axes, anisotropic voxels, pairwise different sizes."""
    attention = torch.zeros(SHAPE)
    attention[0, 1, 2, 3] = 1
    us = MetaTensor(attention, affine=AFFINE, meta={"filename_or_obj": "covid_017.nii.gz"})
    pred = AttentionLevelsd()({"attention_us": us, "attention_ss": us.clone(), "ratio": math.nan})["pred"]
    assert isinstance(pred, MetaTensor)
    assert pred.shape == SHAPE
    assert pred.nonzero().tolist() == [[0, 1, 2, 3]]
    assert torch.equal(pred.affine, AFFINE)
    assert pred.meta["filename_or_obj"] == "covid_017.nii.gz"


def test_the_maps_and_the_rest_of_the_item_stay():
    item = maps(0.5, 0.7, ratio=0.2, case_id="a")
    before = {key: torch.as_tensor(item[key]).clone() for key in ("attention_us", "attention_ss")}
    found = AttentionLevelsd()(item)
    assert set(found) == {*item, "pred"}
    assert "pred" not in item
    for key, value in before.items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize(
    "levels_from", [[], [0.0, 0.5], [0.4, 0.2], [0.3, 0.3], [0.5, 1.1], np.linspace(0.001, 1, 256)]
)
def test_limits_that_are_not_increasing_are_rejected(levels_from):
    with pytest.raises(ValueError, match=r"levels_from is \[.*Expected 1 to 255 increasing numbers in \(0, 1\]"):
        AttentionLevelsd(levels_from=list(levels_from))


def test_a_missing_map_is_named():
    with pytest.raises(ValueError, match=r"Case covid_017 has no 'attention_ss'. Expected the branch's attention map"):
        AttentionLevelsd()({"attention_us": torch.ones(SHAPE), "case_id": "covid_017"})


def test_maps_of_different_grids_are_rejected():
    item = {**maps(0.5, case_id="covid_017"), "attention_ss": torch.ones(1, 2, 4, 3)}
    message = r"Case covid_017: attention_us has shape \(1, 2, 3, 4\), attention_ss \(1, 2, 4, 3\).*apply Invertd"
    with pytest.raises(ValueError, match=message):
        AttentionLevelsd()(item)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_values_outside_0_to_1_are_rejected(value):
    item = maps(0.5, case_id="covid_017")
    item["attention_us"][0, 1, 1, 1] = value
    message = r"Case covid_017: 'attention_us' ranges from .* Expected attention from 0 to 1"
    with pytest.raises(ValueError, match=message):
        AttentionLevelsd()(item)


def test_an_invalid_ratio_is_rejected():
    with pytest.raises(ValueError, match=r"Case covid_017: infection ratio is 1\.5"):
        AttentionLevelsd()(maps(0.5, ratio=1.5, case_id="covid_017"))
