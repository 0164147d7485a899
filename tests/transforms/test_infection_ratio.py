import math

import numpy as np
import pytest
import torch
from custom_components.phantom import make_volume
from custom_components.transforms.infection_ratio import InfectionRatiod, RatioChanneld, infection_ratio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.data import MetaTensor

masks = arrays.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 1))


@given(masks, masks)
def test_the_ratio_equals_a_count_of_voxels(infection, lung):
    infection, lung = infection * lung, lung | (np.arange(24).reshape(2, 3, 4) == 0)
    expected = sum(infection.ravel().tolist()) / sum(lung.ravel().tolist())
    for kind in (np.uint8, np.float32, bool):
        assert infection_ratio(infection.astype(kind), lung.astype(kind)) == expected
        assert infection_ratio(torch.tensor(infection.astype(kind)), np.asfortranarray(lung.astype(kind))) == expected


def test_voxel_counts_give_the_ratio_of_volumes_of_a_phantom():
    phantom = make_volume(3, (40, 44, 14), (8.5, 8.0, 20.0), lesions_ml={"ground_glass": 300.0})
    data = {key: MetaTensor(torch.tensor(getattr(phantom, key))[None]) for key in ("lung", "infection")}
    ratio = InfectionRatiod()(data)["ratio"]
    assert isinstance(ratio, float)
    assert ratio == pytest.approx(phantom.infection_ratio)
    assert ratio == pytest.approx(
        phantom.lesion_volumes_ml["ground_glass"] / (phantom.lung.sum() * 8.5 * 8 * 20 / 1000)
    )


def test_masks_may_be_stored_in_another_axis_order_but_not_in_another_size():
    lung, infection = np.ones((2, 3, 4)), np.zeros((4, 2, 3))
    infection[0, 0, :] = 1
    assert infection_ratio(infection, lung) == 3 / 24
    message = r"Case covid_017: infection mask has shape \(2, 3, 5\), lung mask \(2, 3, 4\). Expected both on"
    with pytest.raises(ValueError, match=message):
        infection_ratio(np.zeros((2, 3, 5)), lung, "covid_017")


def test_an_empty_lung_mask_has_no_ratio():
    empty = np.zeros((1, 10, 12, 10))
    with pytest.raises(ValueError, match=r"Case covid_017: lung mask is empty \(0 of 1,200 voxels\). Check the mask"):
        InfectionRatiod()({"case_id": "covid_017", "lung": empty, "infection": empty + 1})


def test_an_infection_larger_than_the_lungs_is_refused():
    with pytest.raises(ValueError, match=r"^infection ratio is 2. Expected .* masks are not swapped"):
        infection_ratio(np.array([1, 1]), np.array([1, 0]))


@given(st.floats(0, 1))
def test_the_ratio_of_the_datalist_is_kept(known):
    lung = torch.ones(1, 2, 3, 4)
    item = InfectionRatiod()({"ratio": known, "lung": lung, "infection": lung, "label": 1})
    assert item["ratio"] == known
    assert item["label"] == 1


@pytest.mark.parametrize("known", [{}, {"ratio": None}, {"ratio": math.nan}, {"ratio": np.float32("nan")}])
def test_a_ratio_that_is_not_a_number_is_measured(known):
    lung = torch.ones(1, 2, 3, 4)
    assert InfectionRatiod()({**known, "lung": lung, "infection": lung})["ratio"] == 1.0


@pytest.mark.parametrize("infection", [{}, {"infection": None}])
@pytest.mark.parametrize("lung", [{}, {"lung": torch.ones(1, 2, 3, 4)}])
def test_without_an_infection_mask_it_is_unknown(infection, lung):
    assert math.isnan(InfectionRatiod()({**infection, **lung})["ratio"])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"ratio": 3.5}, "infection ratio is 3.5. Expected infection volume / lung volume"),
        ({"infection": torch.ones(1, 2, 3, 4)}, "lung is missing, so the infection has no ratio. .* segment the lungs"),
    ],
)
def test_an_invalid_ratio_and_an_infection_without_lungs_are_rejected(item, message):
    with pytest.raises(ValueError, match=f"Case cap_003: {message}"):
        InfectionRatiod()({"case_id": "cap_003", **item})


def test_the_ratio_fills_a_second_channel_and_the_scan_stays():
    scan = MetaTensor(torch.rand(1, 3, 4, 5), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    item = {"image": scan, "ratio": 0.125}
    found = RatioChanneld("image")(item)["image"]
    assert torch.equal(found[:1], scan)
    assert torch.equal(found.affine, scan.affine)
    assert torch.equal(found[1].as_tensor(), torch.full((3, 4, 5), 0.125))
    assert item["image"] is scan
    assert RatioChanneld("image")({**item, "ratio": math.nan})["image"][1].isnan().all()
