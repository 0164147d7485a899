import numpy as np
import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.phantom import make_slice, make_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

COARSE = {"shape": (50, 46, 24), "spacing_mm": (7.4, 7.8, 12.0)}
VOXEL_ML = 7.4 * 7.8 * 12.0 / 1000


def make(seed, **lesions_ml):
    return make_volume(seed, **COARSE, lesions_ml=lesions_ml)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    ground_glass=st.floats(10, 600),
    consolidation=st.floats(10, 500),
    pleural_effusion=st.floats(10, 150),
)
def test_each_lesion_has_the_requested_volume(seed, **lesions_ml):
    got = make(seed, **lesions_ml).lesion_volumes_ml
    for name, volume_ml in lesions_ml.items():
        assert got[name] == pytest.approx(volume_ml, abs=VOXEL_ML / 2 + 1e-6)
        assert got[name] == pytest.approx(volume_ml, rel=0.05)


def test_only_requested_classes_are_present():
    assert np.unique(make(1, consolidation=50.0).label).tolist() == [0, 2]
    assert make(1, consolidation=0.0).label.max() == 0


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_infection_is_in_the_lung_and_effusion_replaces_lung(seed):
    healthy = make(seed)
    ill = make(seed, ground_glass=200.0, consolidation=100.0, pleural_effusion=80.0)
    assert ill.lung[ill.infection == 1].all()
    np.testing.assert_array_equal(healthy.lung == 1, (ill.lung == 1) | (ill.label == 3))
    assert not ill.lung[ill.label == 3].any()


@pytest.mark.parametrize("name", LESION_CLASSES)
def test_a_larger_lesion_contains_the_smaller_one_of_the_same_seed(name):
    small, large = make(3, **{name: 60.0}), make(3, **{name: 140.0})
    assert large.label[small.label > 0].all()
    assert large.label.astype(bool).sum() > 2 * small.label.astype(bool).sum()


def test_effusion_is_dependent_and_at_the_chest_wall():
    phantom = make(2, pleural_effusion=150.0)
    _, y, _ = np.nonzero(phantom.label == 3)
    _, lung_y, _ = np.nonzero(phantom.lung)
    assert np.median(y) > np.quantile(lung_y, 0.85)
    outside = (phantom.lung == 0) & (phantom.label == 0)
    touching = ndimage.binary_dilation(outside) & (phantom.label == 3)
    assert touching.sum() > 0.5 * (phantom.label == 3).sum()


def test_effusion_has_a_meniscus_thicker_behind_than_at_its_sides():
    phantom = make_slice(2, (192, 180), level_mm=-80.0, lesions_ml={"pleural_effusion": 20.0})
    label = phantom.label[..., 0] == 3
    columns = np.flatnonzero(label.any(axis=1))
    fronts = np.array([np.flatnonzero(label[x])[0] for x in columns])
    one_side = columns < 96 if (columns < 96).sum() > 10 else columns >= 96
    lateral_first = fronts[one_side] if columns[one_side][0] < 96 else fronts[one_side][::-1]
    assert lateral_first[0] < lateral_first[len(lateral_first) // 2]


def test_consolidation_prefers_the_back_and_the_base():
    phantom = make(5, consolidation=250.0)
    _, y, z = np.nonzero(phantom.label == 2)
    _, lung_y, lung_z = np.nonzero(phantom.lung)
    assert y.mean() > lung_y.mean() + 3
    assert z.mean() < lung_z.mean()


def test_ground_glass_prefers_the_periphery():
    depths, lung_depths = [], []
    for seed in range(3):
        phantom = make(seed, ground_glass=250.0)
        depth = ndimage.distance_transform_edt(phantom.lung, COARSE["spacing_mm"])
        depths.append(depth[phantom.label == 1].mean())
        lung_depths.append(depth[phantom.lung == 1].mean())
    assert np.mean(depths) < 0.9 * np.mean(lung_depths)


def test_the_hu_of_each_class_are_in_their_range():
    lesions_ml = {"ground_glass": 10.0, "consolidation": 10.0, "pleural_effusion": 8.0}
    for seed in range(6):
        phantom = make_slice(seed, (256, 256), level_mm=-40.0, lesions_ml=lesions_ml)
        ground_glass, consolidation, effusion = (np.median(phantom.image_hu[phantom.label == v]) for v in (1, 2, 3))
        assert -790 < ground_glass < -300
        assert -60 < consolidation < 60
        assert -10 < effusion < 40


def test_vessels_show_through_ground_glass_and_air_through_consolidation():
    healthy = make_slice(1, (384, 384), level_mm=-40.0, lesions_ml={})
    vessel, bronchus = healthy.image_hu > -250, healthy.image_hu < -960
    core = ndimage.binary_erosion(healthy.lung[..., 0], iterations=6)[..., None]
    ground_glass = make_slice(1, (384, 384), level_mm=-40.0, lesions_ml={"ground_glass": 60.0})
    inside = core & vessel & (ground_glass.label == 1)
    assert inside.sum() > 20
    assert np.median(ground_glass.image_hu[inside]) > np.median(ground_glass.image_hu[ground_glass.label == 1]) + 150
    consolidation = make_slice(1, (384, 384), level_mm=-40.0, lesions_ml={"consolidation": 70.0})
    airways = core & bronchus & (consolidation.label == 2)
    assert airways.sum() > 0
    assert np.quantile(consolidation.image_hu[core & (consolidation.label == 2)], 0.001) < -300


def test_too_large_a_lesion_is_an_error_with_the_largest_possible_volume():
    with pytest.raises(ValueError, match=r"seed 4: 9000 ml of consolidation requested.*largest possible") as error:
        make(4, consolidation=9000.0)
    largest_ml = float(str(error.value).split("volume is ")[1].split(" ml")[0])
    assert make(4, consolidation=largest_ml).lesion_volumes_ml["consolidation"] == pytest.approx(largest_ml, abs=0.06)


def test_earlier_lesions_reduce_the_largest_possible_volume():
    lung_ml = make(4).lung.sum() * VOXEL_ML
    with pytest.raises(ValueError, match=r"ground_glass requested, but the largest possible volume is"):
        make(4, consolidation=0.5 * lung_ml, ground_glass=0.6 * lung_ml)


def test_a_volume_that_is_not_possible_with_whole_voxels_is_an_error():
    with pytest.raises(ValueError, match=r"1 ml of ground_glass requested, .* with whole voxels of 0.69264 ml"):
        make(4, ground_glass=1.0)


def test_negative_volumes_and_unknown_lesions_are_an_error():
    with pytest.raises(ValueError, match=r"consolidation of -3.0 ml requested. Expected a volume of 0 ml or more"):
        make(4, consolidation=-3.0)
    with pytest.raises(ValueError, match=r"unknown lesion 'nodule'. Expected one of ground_glass, consolidation"):
        make(4, nodule=3.0)
