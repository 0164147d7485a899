import logging

import numpy as np
import pytest
import torch
from custom_components import LesionsInLungsd
from custom_components.phantom import make_scan
from custom_components.transforms.lesions_in_lungs import lesions_in_lungs, slices_near
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

AFFINE = np.diag([2.0, 3.0, 5.0, 1.0])


@pytest.fixture(scope="module")
def scan():
    return make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0))


@pytest.fixture
def case(scan):
    """A scan in which everything is predicted as consolidation."""
    image = MetaTensor(torch.from_numpy(scan.image_hu)[None], affine=torch.from_numpy(scan.affine))
    return {"native": image, "pred": MetaTensor(torch.full((1, *scan.image_hu.shape), 2, dtype=torch.uint8))}


def oracle(lesions, lungs, margin_mm):
    """Voxel by voxel; effusion by its connected part."""
    places, inside = np.argwhere(lesions > 0), np.argwhere(lungs)
    steps = (places[:, None] - inside[None]) * [2.0, 3.0, 5.0]
    near = {
        tuple(place) for place, away in zip(places, steps, strict=True) if (np.hypot.reduce(away, 1) <= margin_mm).any()
    }
    parts, _ = ndimage.label(lesions == 3, np.ones((3, 3, 3)))
    next_to = np.abs(places[:, None] - inside[None]).sum(axis=2) <= 1 if margin_mm > 0 else np.zeros((len(places), 1))
    beside = near | {tuple(place) for place, one in zip(places, next_to, strict=True) if one.any()}
    touched = {parts[place] for place in beside} - {0}
    kept = np.zeros_like(lesions)
    for place in map(tuple, places):
        stays = parts[place] in touched if lesions[place] == 3 else place in near
        kept[place] = lesions[place] if stays else 0
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 2.0, 4.0, 9.0]))
def test_it_equals_the_slow_oracle_and_is_idempotent(seed, margin_mm):
    random = np.random.default_rng(seed)
    lesions = random.choice(4, (6, 5, 4), p=[0.6, 0.1, 0.1, 0.2]).astype(np.uint8)
    lungs = random.random((6, 5, 4)) < 0.05
    found = lesions_in_lungs(lesions, lungs, AFFINE, margin_mm)
    assert np.array_equal(found, oracle(lesions, lungs, margin_mm))
    assert found.dtype == lesions.dtype
    assert np.array_equal(lesions_in_lungs(found, lungs, AFFINE, margin_mm), found)


def test_by_default_lesions_stay_up_to_two_millimetres_from_the_lungs():
    lesions, lungs = np.ones((4, 1, 1), np.uint8), np.array([1, 0, 0, 0]).reshape(4, 1, 1)
    assert lesions_in_lungs(lesions, lungs, np.eye(4)).ravel().tolist() == [1, 1, 1, 0]


def test_masks_of_another_grid_are_rejected():
    with pytest.raises(ValueError, match=r"Lesions are \(2, 2, 2\), lungs \(2, 2, 3\). Expected one shape"):
        lesions_in_lungs(np.ones((2, 2, 2)), np.ones((2, 2, 3)), AFFINE)


def test_lesions_of_a_ct_are_limited_to_its_lungs(case, scan):
    kept = LesionsInLungsd("pred")(case)["pred"][0].numpy()
    infected = scan.infection > 0
    assert (kept[infected] == 2).mean() > 0.9  # its voxels are larger than the margin
    far = ndimage.distance_transform_edt(scan.lung == 0, sampling=(3.9, 4.4, 7.0)) > 25
    assert far.any()
    assert not kept[far].any()


def test_a_given_mask_is_used(case):
    lung = MetaTensor(torch.zeros(case["pred"].shape), affine=case["native"].affine)
    lung[:, 40:50, 40:50, 20:30] = 1
    (kept,) = LesionsInLungsd("pred", margin_mm=0)({**case, "lung": lung})["pred"].numpy()
    assert np.array_equal(kept > 0, lung[0].numpy() > 0)


@pytest.mark.parametrize(
    "change", [lambda case: {"pred": case["pred"]}, lambda case: {**case, "native": case["native"][..., :1]}]
)
def test_a_case_that_is_not_a_volume_is_not_changed(case, change):
    assert LesionsInLungsd("pred")(change(case))["pred"] is case["pred"]


def test_without_plausible_lungs_lesions_stay_and_the_case_is_named(case, caplog):
    case["native"] = MetaTensor(torch.full_like(case["native"].as_tensor(), 40.0), affine=case["native"].affine)
    with caplog.at_level(logging.WARNING):
        found = LesionsInLungsd("pred")({**case, "case_id": "a7"})["pred"]
    assert found is case["pred"]
    assert "Case a7" in caplog.text
    assert "its lesions are not limited to the lungs" in caplog.text


@given(st.tuples(*[st.floats(0.4, 12.0)] * 3), st.sampled_from([0, 1, 2]), st.sampled_from([-1, 1]))
def test_effusion_that_touches_the_lungs_is_kept_whatever_the_voxel_size(spacing_mm, axis, direction):
    lungs = np.zeros((7, 8, 9), bool)
    lungs[3, 4, 5] = True
    lesions = np.zeros(lungs.shape, np.uint8)
    place = [3, 4, 5]
    place[axis] += direction
    lesions[tuple(place)] = 3
    assert np.array_equal(lesions_in_lungs(lesions, lungs, np.diag([*spacing_mm, 1.0])), lesions)


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 3.0, 7.0]), st.permutations([0, 1, 2]))
def test_lesions_that_stay_lie_in_slices_near_the_lungs_and_an_effusion_begins_there(seed, step_mm, order):
    """In any storage order; effusion is one connected part here."""
    random = np.random.default_rng(seed)
    affine = np.diag([2.0, 3.0, step_mm, 1.0])[:, [*order, 3]]
    axis = order.index(2)
    lungs = np.moveaxis((random.random((3, 4, 12)) < 0.02), 2, axis)
    if not lungs.any():
        return
    near = np.flatnonzero(slices_near(lungs, affine))
    for lesion in (1, 2, 3):
        kept = lesions_in_lungs(np.full(lungs.shape, lesion, np.uint8), lungs, affine)
        found = np.flatnonzero(kept.any(axis=tuple(other for other in range(3) if other != axis)))
        assert set(found) >= set(near) if lesion == 3 else set(found) <= set(near)


def test_known_lung_notes_are_not_computed_again(case, monkeypatch):
    monkeypatch.setattr("custom_components.transforms.lesions_in_lungs.warned_of_lungs", lambda *_: "looked")
    assert LesionsInLungsd("pred")({**case, "lung_notes": "known"})["lung_notes"] == "known"
    assert LesionsInLungsd("pred")(case)["lung_notes"] == "looked"
