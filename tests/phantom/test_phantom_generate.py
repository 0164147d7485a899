from functools import cache

import numpy as np
import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.phantom import make_slice, make_volume
from custom_components.phantom.body.lesions import random_volumes_ml
from custom_components.phantom.phantom import ISOCENTRE_MM, Phantom
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.yardstick import yardsticks

COARSE = {"shape": (50, 46, 20), "spacing_mm": (7.4, 7.8, 14.0)}


@cache
def default_volume(seed):
    return make_volume(seed, lesions_ml={})


@cache
def random_slices():
    return [make_slice(seed, (192, 192)) for seed in range(16)]


def best_threshold_dice(phantoms, value, step_hu=20):
    hu = np.concatenate([phantom.image_hu[inside_body(phantom)] for phantom in phantoms])
    truth = np.concatenate([phantom.label[inside_body(phantom)] == value for phantom in phantoms])
    edges = np.arange(-1040, 800, step_hu)
    hits = np.concatenate([[0], np.cumsum(np.histogram(hu[truth], edges)[0])])
    chosen = np.concatenate([[0], np.cumsum(np.histogram(hu, edges)[0])])
    low, high = np.triu_indices(len(edges), 1)
    return (2 * (hits[high] - hits[low]) / (chosen[high] - chosen[low] + truth.sum())).max()


def inside_body(phantom):
    dense = ndimage.binary_opening(phantom.image_hu[..., 0] > -300, iterations=2)
    parts, _ = ndimage.label(dense)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return ndimage.binary_fill_holes(body)[..., None]


def test_another_seed_gives_another_anatomy():
    first, second = make_volume(7, **COARSE, lesions_ml={}), make_volume(8, **COARSE, lesions_ml={})
    assert (first.lung != second.lung).mean() > 0.005


def test_the_same_seed_gives_the_same_phantom_and_global_random_states_are_not_used():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = make_slice(3, (40, 36))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(make_slice(3, (40, 36)).image_hu, first.image_hu)


def test_types_and_shape_are_those_of_a_ct_with_masks():
    phantom = make_volume(1, (33, 35, 7), (11.0, 10.0, 38.0))
    assert phantom.image_hu.dtype == np.float32
    assert phantom.label.dtype == phantom.lung.dtype == phantom.infection.dtype == np.uint8
    assert phantom.image_hu.shape == phantom.label.shape == phantom.lung.shape == (33, 35, 7)
    assert phantom.image_hu.min() >= -1024
    assert phantom.image_hu.max() <= 3071


@pytest.mark.parametrize("seed", range(3))
def test_a_default_volume_has_two_connected_lungs_of_2_to_6_litres(seed):
    phantom = default_volume(seed)
    parts, count = ndimage.label(phantom.lung)
    volumes_l = np.bincount(parts.ravel())[1:] * np.prod(phantom.spacing_mm) / 1e6
    big = np.flatnonzero(volumes_l > 0.05) + 1
    assert len(big) == 2, f"{count} parts of {volumes_l} l"
    assert 2.0 < volumes_l.sum() < 6.0
    assert volumes_l[big - 1].sum() > 0.999 * volumes_l.sum()
    sides = sorted(ndimage.center_of_mass(parts == part)[0] < phantom.lung.shape[0] / 2 for part in big)
    assert sides == [False, True]


def test_the_right_lung_is_the_larger_one():
    volumes = [make_volume(seed, **COARSE, lesions_ml={}) for seed in range(6)]
    right = sum(int(volume.lung[:25].sum()) for volume in volumes)
    assert 1.02 < right / sum(int(volume.lung[25:].sum()) for volume in volumes) < 1.4


def test_air_lung_bone_and_soft_tissue_have_realistic_hu():
    phantom = default_volume(0)
    above = phantom.image_hu[60:68, 10:16]
    assert -1010 < np.median(above) < -990
    assert -930 < np.median(phantom.image_hu[phantom.lung == 1]) < -760
    assert 20 < np.median(phantom.image_hu[60:68, 40:44, 14:16]) < 70
    assert phantom.image_hu.max() > 350


def test_dependent_lung_is_denser():
    phantom = default_volume(2)
    y = np.broadcast_to(np.arange(128)[None, :, None], phantom.lung.shape)
    core = ndimage.binary_erosion(phantom.lung, iterations=2)
    front, back = core & (y < 55), core & (y > 75)
    assert np.median(phantom.image_hu[back]) > np.median(phantom.image_hu[front]) + 8


def test_the_heart_lies_on_the_patients_left():
    phantom = default_volume(0)
    level = phantom.lung[:, 50, 16]
    gap = np.flatnonzero(level == 0)
    middle = gap[(gap > 25) & (gap < 103)]
    assert middle.mean() > 63.5 + 2


def test_the_trachea_is_air_outside_the_lungs_at_the_top():
    phantom = default_volume(0)
    top = phantom.image_hu[56:72, 55:75, 38]
    assert top.min() < -900
    assert phantom.lung[56:72, 55:75, 38].max() == 0


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([(2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1)]))
def test_halving_the_spacing_keeps_the_lung_volume(seed, factor):
    coarse = make_volume(seed, **COARSE, lesions_ml={})
    shape = tuple(np.array(COARSE["shape"]) * factor)
    spacing = tuple(np.array(COARSE["spacing_mm"]) / factor)
    fine = make_volume(seed, shape, spacing, lesions_ml={})
    ratio = (fine.lung.sum() * np.prod(spacing)) / (coarse.lung.sum() * np.prod(COARSE["spacing_mm"]))
    assert 0.9 < ratio < 1.1


def test_halving_the_spacing_keeps_the_position_of_lesions():
    lesions_ml = {"consolidation": 200.0, "ground_glass": 300.0}
    coarse = make_volume(4, (60, 56, 24), (6.0, 6.0, 12.0), lesions_ml)
    fine = make_volume(4, (120, 112, 24), (3.0, 3.0, 12.0), lesions_ml)
    for value in (1, 2):
        pooled = (fine.label == value).reshape(60, 2, 56, 2, 24).mean(axis=(1, 3))
        kept = pooled[coarse.label == value].mean()
        assert kept > 0.6, f"class {value}: {kept:.2f}"


def test_a_slice_shows_the_anatomy_of_its_level():
    below, above = make_slice(5, (64, 60), level_mm=-60.0, lesions_ml={}), make_slice(5, (64, 60), level_mm=95.0)
    assert below.affine[2, 3] == ISOCENTRE_MM[2] - 60.0
    assert below.lung.sum() > 1.3 * above.lung.sum()


def test_slices_of_one_seed_belong_to_one_patient():
    first, near, other = (make_slice(seed, (96, 90), level_mm=z, lesions_ml={}) for seed, z in ((5, 0), (5, 8), (6, 0)))
    assert (first.lung != near.lung).sum() < (first.lung != other.lung).sum()
    assert not np.array_equal(first.image_hu, near.image_hu)


def test_about_one_slice_in_twelve_has_no_lesion():
    draws = (
        random_volumes_ml(np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1]), 100.0, 1 / 12)
        for seed in range(2400)
    )
    assert 160 < sum(not any(volumes.values()) for volumes in draws) < 240
    assert 1 <= sum(not make_slice(seed, (32, 32)).label.any() for seed in range(30)) <= 7


def test_random_slices_contain_every_class():
    seen = {int(value) for seed in range(10) for value in np.unique(make_slice(seed, (48, 44)).label)}
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("value", [1, 2, 3])
def test_no_hu_interval_separates_a_lesion_class(value):
    phantoms = random_slices()
    assert any((phantom.label == value).any() for phantom in phantoms)
    assert best_threshold_dice(phantoms, value) < 0.6


def test_lesions_change_the_image_only_at_their_position():
    healthy = make_slice(9, (128, 120), level_mm=-30.0, lesions_ml={})
    ill = make_slice(9, (128, 120), level_mm=-30.0, lesions_ml={"ground_glass": 8.0, "consolidation": 6.0})
    change = ill.image_hu - healthy.image_hu
    assert np.median(change[ill.label == 1]) > 70
    assert np.median(change[ill.label == 2]) > 500
    far = ~ndimage.binary_dilation(ill.label > 0, iterations=12) & (healthy.lung == 0)
    np.testing.assert_allclose(change[far], 0, atol=0.1)


def test_a_slice_of_512_x_512_takes_little_time():
    assert yardsticks(lambda: make_slice(0, (512, 512))) < 4  # 1.2 in 2026


def test_properties_agree_with_a_count_by_hand():
    label = np.array([1, 1, 2, 3, 0, 0], np.uint8).reshape(1, 2, 3)
    lung = np.array([1, 1, 1, 0, 1, 0], np.uint8).reshape(1, 2, 3)
    phantom = Phantom(np.zeros((1, 2, 3), np.float32), label, lung, (10.0, 5.0, 40.0), seed=0)
    assert phantom.lesion_volumes_ml == {"ground_glass": 4.0, "consolidation": 2.0, "pleural_effusion": 2.0}
    assert phantom.infection.ravel().tolist() == [1, 1, 1, 0, 0, 0]
    assert phantom.infection_ratio == pytest.approx(3 / 4)
    assert tuple(phantom.lesion_volumes_ml) == LESION_CLASSES


def test_the_affine_puts_the_first_voxel_right_anterior_inferior():
    phantom = Phantom(*[np.zeros((5, 6, 7))] * 3, spacing_mm=(2.0, 3.0, 4.0), seed=0, centre_mm=(10.0, -20.0, 30.0))
    left, posterior, superior = 10.0 - 2 * 2.0, -20.0 - 2.5 * 3.0, 30.0 - 3 * 4.0
    np.testing.assert_allclose(phantom.affine @ [0, 0, 0, 1], [-left, -posterior, superior, 1])
    np.testing.assert_allclose(phantom.affine @ [1, 1, 1, 1], [-left - 2, -posterior - 3, superior + 4, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, r"seed is -1. Expected a whole number, 0 or more"),
        ({"seed": 1.5}, r"seed is 1.5. Expected a whole number"),
        ({"shape": (31, 40, 5)}, r"shape is \(31, 40, 5\).*at least 32"),
        ({"shape": (40, 40)}, r"shape is \(40, 40\). Expected three whole numbers"),
        ({"shape": (40, 40, 0)}, r"z at least 1"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing is \(1.0, 0.0, 1.0\) mm. Expected three positive numbers"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, r"three positive numbers"),
    ],
)
def test_invalid_arguments_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_volume(**{**COARSE, **arguments})
