import re

import numpy as np
import pytest
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.findings import ScanFindings
from custom_components.reports.scan.profile import draw_profile, infected_areas_cm2, nice_ceiling
from hypothesis import given
from hypothesis import strategies as st


def scan_of(affine, infection="drawn"):
    lungs = np.zeros((4, 5, 6), np.uint8)
    lungs[:2], lungs[2:] = 2, 1
    drawn = np.zeros_like(lungs)
    drawn[0, :3, 4], drawn[3, :2, 1] = 1, 1
    mask = drawn if infection == "drawn" else infection
    return DisplayedScan(ScanFindings("a", np.zeros(lungs.shape, np.float32), affine, lungs, "by hand", mask))


def lines(svg):
    return [[tuple(map(float, p.split(","))) for p in found.split()] for found in re.findall(r'points="([^"]+)"', svg)]


def test_areas_computed_by_hand():
    left, right = infected_areas_cm2(scan_of(np.diag([-5.0, -4.0, 10.0, 1.0])))  # 0.2 square cm a voxel
    assert left.tolist() == pytest.approx([0, 0.4, 0, 0, 0, 0])
    assert right.tolist() == pytest.approx([0, 0, 0, 0, 0.6, 0])


def test_area_times_the_distance_of_the_slices_is_the_volume():
    scan = scan_of(np.diag([-0.7, -0.9, 2.5, 1.0]))
    assert infected_areas_cm2(scan).sum() * 0.25 == pytest.approx(5 * 0.7 * 0.9 * 2.5 / 1000)


@pytest.mark.parametrize(("step", "expected"), [(10.0, (1, 4)), (-10.0, (4, 1))])
def test_the_lowest_slice_is_on_the_left_in_any_storage_order(step, expected):
    svg = draw_profile(scan_of(np.diag([-5.0, -4.0, step, 1.0])))
    left, right = (np.argmin([y for _, y in line]) for line in lines(svg))
    assert (left, right) == expected
    labels = [int(text) for text in re.findall(r">(\d+)</text>", svg)][-6:]
    assert labels == ([0, 1, 2, 3, 4, 5] if step > 0 else [5, 4, 3, 2, 1, 0])


def test_lines_stay_in_the_frame_and_shown_slices_are_marked():
    svg = draw_profile(scan_of(np.diag([-5.0, -4.0, 10.0, 1.0])), shown=(1, 4))
    points = np.array(lines(svg))
    assert points[..., 0].min() >= 40
    assert points[..., 0].max() <= 744
    assert points[..., 1].min() >= 8
    assert svg.count("l-4 7h8z") == 2


def test_without_infection_mask_there_is_no_chart():
    with pytest.raises(ValueError, match="no infection mask"):
        draw_profile(scan_of(np.eye(4), infection=None))


@given(st.floats(1e-6, 1e6))
def test_a_nice_ceiling_is_at_least_the_value_and_at_most_two_and_a_half_times_it(value):
    assert value * (1 - 1e-6) <= nice_ceiling(value) <= 2.5001 * value
