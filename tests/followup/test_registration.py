from dataclasses import replace

import numpy as np
import pytest
from custom_components.followup.registration import LEAST_DICE, Registration, register_lungs

from tests.followup.pairs_of_scans import known_shift, planted_pair, planted_registration, voxel_points_mm


def errors_mm(registration, later):
    """Distance between the found and the known position of lung voxels in the earlier scan."""
    points = voxel_points_mm(later)
    lung = points[later.lungs != 0][::7]
    found = np.array([registration.transform.TransformPoint(point) for point in lung.tolist()])
    return np.linalg.norm(found - known_shift(lung, points.reshape(-1, 3).mean(axis=0)), axis=-1)


@pytest.fixture
def pair():
    earlier, later = planted_pair()
    return later, earlier


@pytest.fixture
def registration():
    return planted_registration()


def test_a_known_deformation_is_found_although_a_lesion_grew_and_another_resolved(pair, registration):
    later, _ = pair
    errors = errors_mm(registration, later)
    assert np.median(errors) < 2
    assert np.percentile(errors, 95) < 5
    assert registration.dice > 0.95
    assert registration.is_plausible


@pytest.mark.slow
def test_the_same_scans_give_the_same_transform(pair, registration):
    again = register_lungs(*pair)
    points = voxel_points_mm(pair[0])[::9, ::9, ::9].reshape(-1, 3).tolist()
    found = [[one.transform.TransformPoint(point) for point in points] for one in (registration, again)]
    np.testing.assert_array_equal(*found)


def test_labels_are_those_of_the_earlier_scan_at_the_known_position(pair, registration):
    later, earlier = pair
    moved = registration.labels_on_later(earlier.lungs, earlier, later)
    assert moved.shape == later.hu.shape
    both = (moved != 0) & (later.lungs != 0)
    assert (moved[both] == later.lungs[both]).mean() > 0.999


@pytest.mark.slow
def test_one_lung_on_two_is_not_plausible(pair):
    later, earlier = pair
    half = np.where(earlier.lungs == 2, 0, earlier.lungs).astype(np.uint8)
    assert not register_lungs(later, replace(earlier, lungs=half)).is_plausible


def test_a_registration_is_plausible_from_the_least_dice_on():
    assert [Registration(None, dice, 3.0).is_plausible for dice in (LEAST_DICE - 0.01, LEAST_DICE)] == [False, True]


def test_a_scan_without_lungs_is_refused(pair):
    later, earlier = pair
    with pytest.raises(ValueError, match="Case later: no lungs were segmented"):
        register_lungs(replace(later, lungs=np.zeros_like(later.lungs)), earlier)
