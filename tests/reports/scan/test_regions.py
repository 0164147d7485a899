"""The list of lesions of the viewer."""

from dataclasses import replace

import numpy as np
import pytest
from custom_components.reports.scan.description import describe_scan
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.regions import Region, regions_of

from tests.reports.scan.test_report import by_hand, stored_as


def regions(findings, most=9):
    return regions_of(DisplayedScan(findings), most)


def test_regions_worked_out_by_hand():
    found, rest_ml = regions(by_hand())
    assert [(region.kind, region.side, round(region.volume_ml, 6), region.first, region.last) for region in found] == [
        ("pleural effusion", "right", 0.06, 3, 3),
        ("mostly consolidation", "right", 0.03, 3, 3),
        ("mostly consolidation", "left", 0.02, 5, 5),
    ]
    assert [region.voxel for region in found][1:] == [(0, 1, 3), (4, 0, 5)]
    assert rest_ml == 0


def test_small_regions_are_summed_up():
    found, rest_ml = regions(by_hand(), most=1)
    assert [region.kind for region in found] == ["pleural effusion"]
    assert rest_ml == pytest.approx(0.05)


def test_voxels_that_share_a_corner_are_one_region_and_both_lungs_are_apart():
    infection = np.zeros((5, 6, 7), np.uint8)
    infection[0, 0, 2] = infection[1, 1, 3] = infection[0, 5, 5] = 1
    lungs = by_hand().lungs.copy()
    lungs[2:] = lungs[4:]  # now the lungs touch
    infection[1:3, 3, 4] = 1
    found, _ = regions(by_hand(infection=infection, lungs=lungs, lesions=None, lesion_slices=()))
    assert sorted((region.side, region.first, region.last, round(region.volume_ml * 100)) for region in found) == [
        ("left", 4, 4, 1),
        ("right", 2, 3, 2),
        ("right", 4, 4, 1),
        ("right", 5, 5, 1),
    ]
    assert {region.kind for region in found} == {"infection"}


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PSL"])
def test_regions_do_not_depend_on_the_storage_order_but_slices_are_those_of_the_file(orientation):
    there, turned = (regions(findings)[0] for findings in (by_hand(), stored_as(by_hand(), orientation)))
    assert [(one.kind, one.side, one.volume_ml, one.voxel) for one in turned] == [
        (one.kind, one.side, one.volume_ml, one.voxel) for one in there
    ]
    assert [one.first for one in turned] == [one.first if "S" in orientation else 6 - one.first for one in there]


def test_volumes_add_up_to_the_report_and_each_place_is_within_its_region(findings_of):
    findings = findings_of["full"]
    scan = DisplayedScan(findings)
    found, rest_ml = regions_of(scan, 1000)
    infected = [region for region in found if region.kind != "pleural effusion"]
    volumes = describe_scan(findings)["infection"]["volume_ml"]
    for side in ("left", "right"):
        assert sum(region.volume_ml for region in infected if region.side == side) == pytest.approx(volumes[side], 1e-3)
    assert rest_ml == 0
    assert infected
    for region in infected:
        assert scan.infection[region.voxel]
        assert region.first <= scan.slice_indices[region.voxel[2]] <= region.last


def test_without_an_infection_mask_the_lesion_classes_in_the_lungs_are_listed():
    found, _ = regions(by_hand(infection=None, infection_source=None))
    assert [region.kind for region in found] == ["pleural effusion", *["mostly consolidation"] * 2]


def test_without_infection_there_are_no_regions(findings_of):
    for state in ("no infection", "lungs only"):
        assert regions(findings_of[state]) == ([], 0)


def test_a_region_can_touch_the_edge_of_the_scan():
    lungs = np.full((3, 4, 5), 1, np.uint8)
    findings = by_hand(
        image_hu=np.zeros(lungs.shape, np.float32), lungs=lungs, infection=lungs, lesions=None, lesion_slices=()
    )
    ((region,), _) = regions(replace(findings, affine=np.diag([-1.0, -1, 10, 1])))
    assert region == Region("infection", "left", pytest.approx(0.6), 0, 4, region.voxel)
    assert region.voxel[2] in range(5)
