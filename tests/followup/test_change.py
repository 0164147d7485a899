from functools import cache

import numpy as np
import pytest
from custom_components.followup.change import NEW, PERSISTING, RESOLVED, beyond_border, by_zone_ml, find_change
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

AFFINE = np.diag([-1.5, -2.0, 3.0, 1.0])
SPACING_MM = (1.5, 2.0, 3.0)


@cache
def blobs(seed, shape=(20, 16, 11)):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return noise > np.quantile(noise, 0.8)


def slow_beyond_border(mask, other, spacing_mm, border_mm):
    """Voxel by voxel."""
    spacing = np.array(spacing_mm)
    only = [tuple(voxel) for voxel in np.argwhere(mask & ~other)]
    others = np.argwhere(other)
    far = [v for v in only if all(np.linalg.norm((np.array(v) - o) * spacing) > border_mm for o in others)]
    result = np.zeros_like(mask)
    for voxel in only:
        result[voxel] = any(np.linalg.norm((np.array(voxel) - f) * spacing) <= border_mm for f in far)
    return result


@pytest.mark.parametrize("seed", range(3))
def test_the_border_is_that_of_a_slow_search(seed):
    one, other = blobs(seed, (9, 8, 7)), blobs(seed + 100, (9, 8, 7))
    expected = slow_beyond_border(one, other, SPACING_MM, 3.1)
    np.testing.assert_array_equal(beyond_border(one, other, SPACING_MM, 3.1), expected)
    assert expected.any() or seed


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 50), border_mm=st.floats(0, 8))
def test_later_infection_is_persisting_or_new_and_resolved_is_earlier_infection(seed, border_mm):
    later, earlier = blobs(seed), blobs(seed + 1000)
    found = find_change(later, earlier, AFFINE, border_mm=border_mm).map
    np.testing.assert_array_equal(np.isin(found, (PERSISTING, NEW)), later)
    assert not (found == NEW)[earlier].any()
    assert (earlier & ~later)[found == RESOLVED].all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 50), border_mm=st.floats(0, 8))
def test_exchanged_masks_exchange_new_and_resolved(seed, border_mm):
    later, earlier = blobs(seed), blobs(seed + 1000)
    one, other = (find_change(*masks, AFFINE, border_mm=border_mm) for masks in ((later, earlier), (earlier, later)))
    np.testing.assert_array_equal(one.map == NEW, other.map == RESOLVED)
    assert one.new_ml == other.resolved_ml


def test_a_mask_shifted_by_less_than_the_border_has_not_changed():
    mask = np.zeros((20, 16, 11), bool)
    mask[2:17] = blobs(3)[2:17]
    shifted = np.roll(mask, 1, axis=0)
    change = find_change(shifted, mask, AFFINE, border_mm=3.0)
    assert (change.new_ml, change.resolved_ml) == (0, 0)
    assert find_change(shifted, mask, AFFINE, border_mm=0).new_ml > 0


def test_infection_where_the_earlier_scan_shows_nothing_is_not_new():
    later, covered = np.zeros((2, 8, 9, 10), bool)
    later[2:6], covered[:4] = True, True
    change = find_change(later, np.zeros_like(later), AFFINE, covered)
    assert change.new_ml == pytest.approx(2 * 9 * 10 * 0.009)
    assert change.uncovered_ml == pytest.approx(change.new_ml)
    assert not change.map[4:].any()


def test_zones_are_thirds_of_a_lung_from_top_to_bottom():
    lungs = np.zeros((4, 3, 9), np.uint8)
    lungs[:2], lungs[2:] = 2, 1  # x runs to the left
    mask = np.zeros_like(lungs)
    mask[0, 0, 1], mask[3, :, 8] = 1, 1
    zones = by_zone_ml(mask, lungs, AFFINE)
    assert zones["right"] == {"upper": 0, "middle": 0, "lower": pytest.approx(0.009)}
    assert zones["left"] == {"upper": pytest.approx(0.027), "middle": 0, "lower": 0}
