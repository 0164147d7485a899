"""Distribution of the infection: each rule against a slow count, voxel by voxel."""

import math
from dataclasses import replace

import numpy as np
import pytest
from custom_components.reports.scan.description import describe_scan
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.distribution import describe_distribution, peripheral_percent
from custom_components.reports.scan.findings import Model, ScanFindings

SPACING_MM = (4.0, 5.0, 9.0)  # 0.18 ml a voxel
AFFINE = np.diag([-4.0, -5.0, 9.0, 1.0])


def lungs():
    """Two boxes of different size and place: right of 6 x 8 x 9 voxels, left of 7 x 6 x 12."""
    array = np.zeros((20, 14, 17), np.uint8)
    array[2:8, 3:11, 2:11], array[10:17, 4:10, 3:15] = 2, 1
    return array


def findings(infection, **more):
    shape = infection.shape
    return ScanFindings("012", np.full(shape, -800, np.float32), AFFINE, lungs(), "by hand", infection, "too", **more)


def random_infection(seed, share=0.2):
    drawn = np.random.default_rng(seed).random(lungs().shape) < share
    return (drawn & (lungs() > 0)).astype(np.uint8)


def slow_zone_percent(infection, value, zone):
    """Infected percentage of a third, by a loop over slices."""
    mask = lungs() == value
    slices = [z for z in range(mask.shape[2]) if mask[:, :, z].any()]
    lung = infected = 0
    for number, z in enumerate(slices):
        if ("lower", "middle", "upper")[3 * number // len(slices)] == zone:
            lung += int(mask[:, :, z].sum())
            infected += int((mask & (infection > 0))[:, :, z].sum())
    return 100 * infected / lung


def slow_peripheral_percent(infection):
    """Distance of each lung voxel to the nearest voxel outside its lung, by all pairs; ties count in part."""
    outer = total = 0.0
    for value in (1, 2):
        mask = lungs() == value
        outside, voxels = np.argwhere(~mask) * SPACING_MM, np.argwhere(mask)
        depth = [np.sqrt(np.square(outside - voxel * SPACING_MM).sum(axis=1)).min() for voxel in voxels]
        wanted, border = len(depth) / 3, sorted(depth)[math.ceil(len(depth) / 3) - 1]
        nearer, same = sum(d < border for d in depth), sum(d == border for d in depth)
        for voxel, d in zip(voxels, depth, strict=True):
            if infection[tuple(voxel)]:
                total += 1
                outer += 1 if d < border else (wanted - nearer) / same if d == border else 0
    return 100 * outer / total


@pytest.mark.parametrize("seed", range(3))
def test_zones_are_thirds_of_each_lungs_height(seed):
    infection = random_infection(seed)
    zones = describe_distribution(DisplayedScan(findings(infection)))["zones"]
    for side, value in (("left", 1), ("right", 2)):
        for zone in ("upper", "middle", "lower"):
            assert zones[side][zone]["percent"] == pytest.approx(slow_zone_percent(infection, value, zone), abs=0.005)


@pytest.mark.parametrize("seed", range(2))
def test_the_outer_third_is_the_third_of_the_voxels_nearest_to_the_surface(seed):
    infection = random_infection(seed, 0.4)
    expected = slow_peripheral_percent(infection)
    assert peripheral_percent(DisplayedScan(findings(infection))) == pytest.approx(expected, abs=1e-6)


def test_infection_of_the_whole_lungs_lies_in_the_outer_third_by_a_third():
    infection = (lungs() > 0).astype(np.uint8)
    assert peripheral_percent(DisplayedScan(findings(infection))) == pytest.approx(100 / 3)


def test_a_lung_that_is_cut_has_no_surface_at_the_border_of_the_scan():
    cut = np.s_[:, :, 5:10]
    ends, middle = np.zeros((2, *lungs()[cut].shape), np.uint8)
    ends[..., [0, -1]], middle[..., 2] = 1, 1
    part = ScanFindings("012", np.zeros(ends.shape, np.float32), AFFINE, lungs()[cut], "by hand")
    shares = [
        peripheral_percent(DisplayedScan(replace(part, infection=mask * (part.lungs > 0)))) for mask in (ends, middle)
    ]
    assert shares == pytest.approx([100 / 3, 100 / 3])


@pytest.mark.parametrize(
    ("shell", "pattern"), [(np.s_[2:3, 3:11, 2:11], "peripheral"), (np.s_[5:6, 6:8, 5:8], "central"), (None, "both")]
)
def test_infection_at_the_surface_is_peripheral_and_in_the_depth_central(shell, pattern):
    infection = (lungs() > 0).astype(np.uint8)
    if shell is not None:
        infection[:] = 0
        infection[shell] = 1
    assert describe_distribution(DisplayedScan(findings(infection)))["pattern"] == pattern


@pytest.mark.parametrize(
    ("right", "left", "laterality"), [(6, 6, "bilateral"), (6, 5, "right"), (0, 6, "left"), (5, 5, None), (0, 0, None)]
)
def test_a_lung_is_affected_from_one_ml_on(right, left, laterality):
    infection = np.zeros_like(lungs())
    infection[2:8, 3, 2][:right] = infection[10:17, 4, 3][:left] = 1  # 6 voxels are 1.08 ml
    found = describe_distribution(DisplayedScan(findings(infection)))
    assert found["laterality"] == laterality
    assert found["ct_score"] == (right >= 6) + (left >= 6)


@pytest.mark.parametrize(
    ("slices", "score", "extent"), [(0, 0, "CT-0"), (1, 2, "CT-1"), (2, 3, "CT-1"), (3, 4, "CT-1"), (6, 8, "CT-2")]
)
def test_the_ct_score_sums_the_zones_and_the_extent_is_that_of_both_lungs(slices, score, extent):
    """A third of the right lung has 3 slices, and the right lung 46 % of both lungs' volume."""
    infection = np.zeros_like(lungs())
    infection[2:8, 3:11, 2 : 2 + slices] = 1
    found = describe_distribution(DisplayedScan(findings(infection)))
    assert found["ct_score"] == score
    assert found["extent"] == extent


def test_a_missing_lung_has_no_score_and_no_sum():
    infection = random_infection(1)
    one = replace(findings(infection), lungs=lungs() * np.uint8(lungs() == 2))
    found = describe_distribution(DisplayedScan(one))
    assert found["zones"]["left"] == {zone: {"percent": None, "score": None} for zone in ("upper", "middle", "lower")}
    assert (found["ct_score"], found["laterality"]) == (None, "right")


def test_the_reading_names_side_place_and_class():
    infection = np.zeros_like(lungs())
    infection[2:4, 3:11, 2:5] = 1
    lesions = infection.copy()
    lesions[2, 3:5, 2:5] = 2
    report = describe_scan(findings(infection, lesions=lesions, lesion_slices=(2, 3), vbnet_infection=infection))
    distribution, severity, agreement, consistency = report["reading"]
    assert distribution.startswith("Infection in the right lung only, mainly peripheral (")
    assert "mainly in the lower thirds of their height (upper 0 %, middle 0 %, lower 100 %)" in distribution
    assert distribution.endswith("predominantly ground-glass.")
    assert "CT score 2 of 24 over six zones (Wang et al. 2020), extent CT-1" in severity
    marked = "VB-Net marked 8.6 ml and the lesion network 8.6 ml, 8.6 ml of it in common"
    assert agreement == f"Both networks agree (Dice 1.00): {marked}."
    assert consistency == "0 % of what the lesion network marked has nothing above or below it in the next slice."


def test_where_nothing_is_found_there_is_no_reading_and_no_score():
    report = describe_scan(findings(np.zeros_like(lungs()), lesions=np.zeros_like(lungs()), lesion_slices=(3,)))
    assert report["reading"] == []
    assert report["distribution"]["ct_score"] == 0
    assert report["summary"].startswith(
        "No infection found in 168 ml of lung, which does not exclude one. No lesion of"
    )


def test_the_overlap_of_both_networks_is_counted_inside_the_lungs():
    vbnet, lesions = np.zeros((2, *lungs().shape), np.uint8)
    vbnet[2:8, 3, 2], lesions[5:8, 3, 2], lesions[2:8, 4, 2] = 1, 1, 2  # 6 voxels, and 9 of which 3 in common
    vbnet[0], lesions[0, 0, 0] = 1, 1  # outside the lungs
    infection = ((vbnet | (lesions > 0)) & (lungs() > 0)).astype(np.uint8)
    report = describe_scan(findings(infection, lesions=lesions, lesion_slices=(2,), vbnet_infection=vbnet))
    assert report["agreement"] == {"vbnet_ml": 1.08, "lesion_network_ml": 1.62, "both_ml": 0.54, "dice": 0.4}
    assert report["reading"][2].startswith("The networks differ (Dice 0.40): VB-Net marked 1.1 ml")
    assert "0.54 ml of infection, marked by VB-Net only, have no class." in report["notes"][-1]


def test_what_has_nothing_above_or_below_it_is_counted_inside_the_lungs():
    """By a loop over the voxels."""
    lesions = np.random.default_rng(3).choice(4, lungs().shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    scan = findings(np.zeros_like(lungs()), lesions=lesions, mirror_slices=5, mirror_dice=0.87654321)
    shown = DisplayedScan(scan)
    marked = {p for p in np.ndindex(shown.lesions.shape) if shown.lesions[p] in (1, 2) and shown.lungs[p]}
    alone = [(x, y, z) for x, y, z in marked if not {(x, y, z - 1), (x, y, z + 1)} & marked]
    expected = 100 * len(alone) / len(marked)
    assert 20 < expected < 95
    found = describe_scan(scan)["consistency"]
    assert found == {"mirror_slices": 5, "mirror_dice": 0.8765, "isolated_percent": round(expected, 4)}


def test_the_reading_names_the_mirror_images():
    infection = np.zeros_like(lungs())
    infection[2:4, 3:11, 2:5] = 1
    scan = findings(infection, lesions=infection, vbnet_infection=infection, mirror_slices=2, mirror_dice=0.5)
    *_, last = describe_scan(scan)["reading"]
    assert last.endswith("; with left and right exchanged, the network marks the same with Dice 0.50 (2 slices).")


def test_scores_on_left_out_data_belong_to_the_infection_that_is_reported_and_decide_on_the_digits():
    vbnet = Model("a", "1", "a.pt", "0" * 64, left_out={"infection": {"dice": [0.5], "on": "x", "false_percent": 0.1}})
    classes = {"ground_glass": {"dice": [0.64], "on": "x"}, "consolidation": {"dice": [0.34], "on": "x"}}
    lesion = replace(
        vbnet, left_out={"infection_either": {"dice": [0.6, 0.8], "on": "y", "false_percent": 60}, **classes}
    )
    infection = random_infection(3)
    lesions = (infection * (1 + (np.arange(17) > 8))).astype(np.uint8)
    known = findings(infection, lesions=lesions, lesion_slices=(2,), models=(vbnet, lesion))
    report = describe_scan(known)
    assert report["left_out"]["infection"]["dice"] == [0.6, 0.8]
    assert "in a CT without infection, the networks marked 60 % of the lungs" in report["summary"]
    volume_ml = report["lesions"]["volume_ml"]
    assert 10 < volume_ml["consolidation"] < 100
    assert 10 < volume_ml["ground_glass"] < 100
    assert f"ground-glass opacity {volume_ml['ground_glass']:.0f} ml" in report["summary"]
    assert f"consolidation {round(volume_ml['consolidation'], -1):.0f} ml" in report["summary"]
    alone = describe_scan(replace(known, infection_source="VB-Net"))
    assert alone["left_out"]["infection"]["dice"] == [0.5]
    assert "without infection" not in alone["summary"]
    assert "infection" not in describe_scan(replace(known, models=(lesion,)))["left_out"]
