import numpy as np
import pytest
import torch
from custom_components import RemoveSmallLesionsd
from custom_components.transforms.small_lesions import smallest_part, without_small_lesions
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor


def oracle(lesions, smallest):
    """Pixel by pixel: its part is found by a flood fill."""
    kept = np.zeros_like(lesions)
    for place in map(tuple, np.argwhere(lesions > 0)):
        part, edge = {place}, [place]
        while edge:
            around = np.argwhere(np.ones((3,) * lesions.ndim)) - 1 + edge.pop()
            for neighbour in map(tuple, around):
                inside = all(0 <= n < size for n, size in zip(neighbour, lesions.shape, strict=True))
                if inside and neighbour not in part and lesions[neighbour] == lesions[place]:
                    part.add(neighbour)
                    edge.append(neighbour)
        if len(part) >= smallest:
            kept[place] = lesions[place]
    return kept


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 6), st.sampled_from([(7, 6), (5, 4, 3)]))
def test_it_equals_the_slow_oracle_and_is_idempotent(seed, smallest, shape):
    lesions = np.random.default_rng(seed).choice(4, shape, p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint8)
    before = lesions.copy()
    found = without_small_lesions(lesions, smallest)
    assert np.array_equal(found, oracle(lesions, smallest))
    assert found.dtype == lesions.dtype
    assert np.array_equal(lesions, before)
    assert np.array_equal(without_small_lesions(found, smallest), found)


@pytest.mark.parametrize("shape", [(512, 512, 1), (512, 512, 130), (130, 512, 512), (512, 130, 512)])
def test_by_default_parts_of_0_04_percent_of_a_slice_are_kept_in_any_storage_order(shape):
    assert smallest_part(shape) == 105  # 0.0004 x 512 x 512 = 104.9


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_the_same_parts_are_kept_at_any_resolution(scale):
    lesions = np.zeros((1, 20, 30, 1), np.uint8)
    lesions[0, 2:4, 2:4], lesions[0, 10:13, 10:13] = 2, 2  # 4 and 9 of 600 pixels
    fine = torch.from_numpy(lesions.repeat(scale, 1).repeat(scale, 2))
    found = RemoveSmallLesionsd("pred", smallest=0.01)({"pred": fine})["pred"]
    assert int((found == 2).sum()) == 9 * scale**2


def test_a_map_keeps_its_affine_and_type_and_the_input_is_not_changed():
    lesions = torch.zeros(1, 20, 20, 4, dtype=torch.uint8)
    lesions[0, 3, 3, 3] = 1
    data = {"pred": MetaTensor(lesions, affine=np.diag([2.0, 2.0, 5.0, 1.0]))}
    found = RemoveSmallLesionsd("pred", smallest=0.01)(data)["pred"]
    assert int(found.sum()) == 0
    assert int(data["pred"].sum()) == 1
    assert found.dtype == torch.uint8
    assert found.affine.diagonal().tolist() == [2, 2, 5, 1]


def test_parts_are_connected_across_slices():
    lesions = torch.zeros(1, 20, 20, 4)
    lesions[0, 3, 3] = 1
    assert int(RemoveSmallLesionsd("pred", smallest=0.01)({"pred": lesions})["pred"].sum()) == 4
    assert int(RemoveSmallLesionsd("pred", smallest=0.0126)({"pred": lesions})["pred"].sum()) == 0


def test_zero_keeps_all():
    lesions = torch.ones(1, 20, 20, 1)
    assert RemoveSmallLesionsd("pred", smallest=0)({"pred": lesions})["pred"] is lesions


@pytest.mark.parametrize("smallest", [-0.1, 1.5, "0.1", True, None])
def test_an_invalid_share_is_rejected(smallest):
    with pytest.raises(ValueError, match=r"smallest_lesion is .*from 0 \(all lesions are kept\) to 1"):
        RemoveSmallLesionsd("pred", smallest=smallest)
