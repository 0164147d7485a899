from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from custom_components.pictures.overlay import INFECTION_COLOUR
from custom_components.pictures.sheet import mark_sides
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.findings import ScanFindings
from custom_components.reports.scan.pictures import (
    chosen_slices,
    chosen_views,
    draw_overview,
    draw_slices,
    field_of_view,
)
from PIL import Image, ImageFont

from tests.pictures.test_figures import extent

SHAPE, SPACING_MM = (40, 48, 20), (2.0, 1.0, 3.0)  # 80 x 48 x 60 mm
EVERYTHING = (slice(0, 40), slice(0, 48), slice(0, 20))


def box(x, y, z, value=1):
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[x, y, z] = value
    return array


LUNGS = box(np.s_[4:18], np.s_[6:44], np.s_[2:18], 2) | box(np.s_[22:38], np.s_[6:44], np.s_[2:18], 1)
SPOT = box(np.s_[30:36], np.s_[36:42], np.s_[15:18])  # at the left, the back and the top


def findings(**more):
    affine = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    return ScanFindings("012", np.full(SHAPE, -1350.0, np.float32), affine, LUNGS, "by hand", **more)


def pixels(panel):
    return np.asarray(panel.picture).astype(int)


def infected(panel):
    return np.abs(pixels(panel) - INFECTION_COLOUR).max(axis=2) <= 1


def test_infection_at_the_left_back_top_appears_right_below_and_above():
    scan = DisplayedScan(findings(infection=SPOT))
    _, axial, coronal = draw_overview(scan, EVERYTHING, 180, 90)[1]
    assert extent(infected(axial)) == pytest.approx((36 / 48, 42 / 48, 30 / 40, 36 / 40), abs=0.03)
    assert extent(infected(coronal)) == pytest.approx((2 / 20, 5 / 20, 30 / 40, 36 / 40), abs=0.03)


@pytest.mark.parametrize(("row", "letters"), [(0, "RLAP"), (1, "RLSI")])
def test_the_patients_sides_are_written_at_the_edges(row, letters):
    air = replace(findings(), image_hu=np.full(SHAPE, -2000.0, np.float32))
    panel = draw_overview(DisplayedScan(air), (slice(0, 40), slice(10, 48), slice(4, 20)), 180, 90)[row][0]
    expected = Image.new("RGB", panel.picture.size)
    mark_sides(expected, letters, ImageFont.load_default(20))
    width, height = expected.size
    for left, top in ((12, height // 2 - 12), (width - 24, height // 2 - 12), (width // 2 - 12, 0)):
        place = (left, top, left + 12, top + 24)
        assert np.array_equal(panel.picture.crop(place), expected.crop(place))
        assert np.asarray(expected.crop(place)).max() > 200


def test_a_file_stored_the_other_way_round_gives_the_same_pictures():
    there = findings(infection=SPOT)
    flipped = {name: getattr(there, name)[::-1, ::-1, ::-1] for name in ("image_hu", "lungs", "infection")}
    affine = there.affine @ np.array([[-1, 0, 0, 39], [0, -1, 0, 47], [0, 0, -1, 19], [0, 0, 0, 1.0]])
    turned = DisplayedScan(replace(there, affine=affine, **flipped))
    rows = [draw_overview(scan, field_of_view(scan), 180, 90) for scan in (DisplayedScan(there), turned)]
    for one, other in zip(chain(*rows[0]), chain(*rows[1]), strict=True):
        assert np.array_equal(pixels(one), pixels(other))
    places = [row[0][1].place for row in rows]
    assert places == [f"Largest lesion, slice {slice_} (z = 45 mm)" for slice_ in (15, 4)]


@pytest.mark.parametrize(("height_mm", "scale"), [(103.5, 90 / 2 / 60), (175, 160 / (48 + 48 + 60))])
def test_all_views_have_the_patients_proportions_and_one_scale_the_larger_of_two_layouts(height_mm, scale):
    rows = draw_overview(DisplayedScan(findings(infection=SPOT)), EVERYTHING, 180, height_mm)
    assert (len(rows), len(rows[0])) == ((2, 3) if height_mm < 150 else (3, 2))
    for panel in chain(*rows):
        width, height = (80, 60 if "coronal" in panel.place else 48)
        assert panel.width_mm / width == pytest.approx(panel.height_mm / height)
        assert panel.width_mm / width == pytest.approx(scale)
        assert panel.picture.size == (round(8 * panel.width_mm), round(8 * panel.height_mm))


def test_many_columns_share_the_width():
    attention = SPOT.astype(np.float32)
    scan = DisplayedScan(findings(attention_us=attention, attention_ss=attention))
    rows = draw_overview(scan, EVERYTHING, 180, 500)
    assert [len(row) for row in rows] == [3, 3, 3, 3]
    assert sum(panel.width_mm for panel in rows[0]) == pytest.approx(180)


def test_the_first_view_is_the_middle_of_the_lungs_and_the_others_the_largest_lesion_inside_them():
    infection = SPOT.copy()  # the largest lesion, 6 x 6 x 3 voxels
    infection[5:8, 10:13, 3] = infection[5:8, 20:23, 3] = infection[5:8, 30:33, 3] = 1  # none of them as large
    infection[:4] = infection[18:22] = 1  # far more, but outside the lungs
    views = chosen_views(DisplayedScan(findings(infection=infection)))
    assert [(view.name, view.is_axial) for view in views] == [
        ("Middle of the lungs", True),
        ("Largest lesion", True),
        ("Largest lesion", False),
    ]
    assert views[0].index in (9, 10)
    assert (views[1].index, views[2].index) in [(15, 38), (15, 39)]
    assert (views[1].crossing, views[2].crossing) == (views[2].index, views[1].index)


def test_without_infection_and_attention_both_views_are_the_middle_of_the_lungs():
    one_sided = box(np.s_[4:18], np.s_[6:44], np.s_[2:18], 2)
    one_sided[4:18, 6:44, 2:5] = 0
    views = chosen_views(DisplayedScan(replace(findings(infection=0 * SPOT), lungs=one_sided)))
    assert [(view.name, view.is_axial) for view in views] == [
        ("Middle of the lungs", True),
        ("Middle of the lungs", False),
    ]
    assert views[0].index == 11  # of slices 5 to 17
    assert views[1].index in (24, 25)


def test_attention_brightens_only_its_own_voxels():
    scan = DisplayedScan(findings(attention_us=SPOT.astype(np.float32)))
    plain, _, heated = draw_overview(scan, EVERYTHING, 180, 90)[1]
    brighter = (pixels(heated) - pixels(plain)).sum(axis=2) > 200
    assert extent(brighter) == pytest.approx((36 / 48, 42 / 48, 30 / 40, 36 / 40), abs=0.03)


def test_without_infection_the_cuts_go_through_the_attention_in_the_lungs():
    attention = np.zeros(SHAPE, np.float32)
    attention[:, 0, 0] = 1  # in front of the lungs
    attention[30:32, 40, 4] = 0.8
    scan = DisplayedScan(findings(infection=np.zeros_like(LUNGS), attention_us=attention))
    assert [view.index for view in chosen_views(scan)][1:] == [4, 40]


def test_the_field_of_view_holds_lungs_and_attention_and_15_mm_around():
    lungs = box(np.s_[15:20], np.s_[20:30], np.s_[8:10], 2)
    attention = np.zeros(SHAPE, np.float32)
    assert field_of_view(DisplayedScan(replace(findings(), lungs=lungs))) == (slice(7, 28), slice(5, 45), slice(3, 15))
    attention[33, 25, 9] = 0.5
    wide = field_of_view(DisplayedScan(replace(findings(attention_us=attention), lungs=lungs)))
    assert wide[0] == slice(7, 40)


def test_without_lungs_the_whole_scan_is_shown():
    assert field_of_view(DisplayedScan(replace(findings(), lungs=0 * LUNGS))) == EVERYTHING


def test_chosen_slices_spread_over_the_infection_and_include_the_most_infected():
    infection = box(np.s_[24:30], np.s_[10:20], np.s_[3:17])
    infection[24:36, 10:30, 9] = 1
    chosen = chosen_slices(DisplayedScan(findings(infection=infection)))
    assert 9 in chosen
    assert len(chosen) <= 6
    assert chosen[0] <= 6
    assert chosen[-1] >= 13
    assert min(np.diff(chosen)) * SPACING_MM[2] >= 10


def test_without_infection_slices_spread_over_the_lungs():
    chosen = chosen_slices(DisplayedScan(findings()))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert 2 < chosen[0] < chosen[-1] < 17


def test_lesions_are_coloured_in_the_slices():
    lesions = 3 * box(np.s_[30:36], np.s_[36:42], np.s_[15:18])
    scan = DisplayedScan(findings(infection=SPOT, lesions=lesions.astype(np.uint8)))
    for panel in draw_slices(scan, EVERYTHING, 3, 180, 40):
        assert (pixels(panel)[..., 2] - pixels(panel)[..., 0]).max() > 60
        assert panel.caption in panel.alt
        assert panel.height_mm == pytest.approx(panel.width_mm * 48 / 80)
