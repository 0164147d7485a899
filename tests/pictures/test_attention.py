import numpy as np
import pytest
from custom_components.pictures.attention import (
    INFECTION_COLOUR,
    LUNG_COLOUR,
    draw_attention,
    heat_rgb,
    slices_of_interest,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SHAPE, SPACING_MM = (40, 48, 20), (2.0, 1.0, 3.0)  # 80 x 48 x 60 mm
WIDTH, DEPTH, HEIGHT = 384, 230, 288  # pixels, at 4.8 for a mm
LEFT, TOP, GAP = 8, 46, 8


def air():
    return np.full(SHAPE, -1350.0, dtype=np.float32)


def box(x, y, z):
    array = np.zeros(SHAPE, dtype=np.float32)
    array[x, y, z] = 1
    return array


def panel(picture, view, column):
    pixels = np.asarray(picture).astype(int)
    left = LEFT + column * (WIDTH + GAP)
    top, height = (TOP, DEPTH) if view == "axial" else (TOP + DEPTH + GAP, HEIGHT)
    return pixels[top : top + height, left : left + WIDTH]


def extent(is_there):
    """First and last row and column, as shares of the panel."""
    rows, columns = np.nonzero(is_there)
    height, width = is_there.shape
    return rows.min() / height, (rows.max() + 1) / height, columns.min() / width, (columns.max() + 1) / width


def reddish(pixels):
    return (pixels[..., 0] > 60) & (pixels[..., 0] > 2 * pixels[..., 2])


def coloured(pixels, colour):
    return np.abs(pixels - colour).max(axis=2) <= 1


GREY = hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32))


@given(GREY, GREY)
@settings(max_examples=30)
def test_heat_falls_with_the_attention_and_leaves_the_rest_grey(grey, attention):
    rgb = heat_rgb(grey, attention)
    assert rgb.shape == (3, 4, 3)
    assert rgb.min() >= 0
    assert rgb.max() <= 1 + 1e-6
    changed = np.abs(rgb - grey[..., None]).max(axis=2)
    assert np.all(changed <= 0.7 * attention + 1e-6)


@given(hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 1)))
@settings(max_examples=40)
def test_the_slices_of_interest_have_most_of_the_mask(mask):
    z, y = slices_of_interest(mask.shape, None, np.zeros_like(mask), mask)
    if mask.any():
        assert mask[:, :, z].sum() == max(mask[:, :, k].sum() for k in range(5))
        assert mask[:, y].sum() == max(mask[:, k].sum() for k in range(4))
    else:
        assert (z, y) == (2, 2)


def test_attention_at_the_left_back_top_appears_right_below_and_above():
    attention = box(np.s_[30:36], np.s_[36:42], np.s_[15:18])  # x to Left, y to Posterior, z to Superior
    picture = draw_attention(air(), {"US": attention}, SPACING_MM, "title")
    axial, coronal = (extent(reddish(panel(picture, view, 1))) for view in ("axial", "coronal"))
    assert axial == pytest.approx((36 / 48, 42 / 48, 30 / 40, 36 / 40), abs=0.03)
    assert coronal == pytest.approx((2 / 20, 5 / 20, 30 / 40, 36 / 40), abs=0.05)
    assert not reddish(panel(picture, "axial", 0)).any()


def test_both_views_are_in_proportion_and_of_one_scale():
    ball = np.linalg.norm((np.indices(SHAPE).T + 0.5) * SPACING_MM - (40, 24, 30), axis=-1).T < 15
    picture = draw_attention(air(), {}, SPACING_MM, "title", infection=ball)
    for view, height in (("axial", DEPTH), ("coronal", HEIGHT)):
        top, bottom, left, right = extent(coloured(panel(picture, view, 0), INFECTION_COLOUR))
        assert (right - left) * WIDTH == pytest.approx(30 * 4.8, abs=12)
        assert (bottom - top) * height == pytest.approx(30 * 4.8, abs=15)


@pytest.mark.parametrize("thickness_mm", [0.5, 8.0])
def test_thin_and_thick_slices_show_one_and_the_same_body(thickness_mm):
    slices = round(64 / thickness_mm)
    pictures = [draw_attention(np.zeros((32, 32, n)), {}, (2, 2, 64 / n), "title") for n in (slices, 32)]
    assert pictures[0].size == pictures[1].size


def test_contours_are_thin_lines_around_lung_and_infection():
    lung, infection = box(np.s_[5:35], np.s_[5:43], np.s_[2:18]), box(np.s_[10:20], np.s_[10:20], np.s_[5:10])
    picture = draw_attention(air(), {"US": infection}, SPACING_MM, "title", lung, infection)
    axial = panel(picture, "axial", 0)
    lines = coloured(axial, LUNG_COLOUR)
    assert extent(lines) == pytest.approx((5 / 48, 43 / 48, 5 / 40, 35 / 40), abs=0.01)
    assert lines.sum() < 2 * (WIDTH + DEPTH)
    assert extent(coloured(axial, INFECTION_COLOUR)) == pytest.approx((10 / 48, 20 / 48, 10 / 40, 20 / 40), abs=0.01)
    assert not coloured(panel(picture, "axial", 1), LUNG_COLOUR).any()


def test_the_slice_with_most_infection_is_shown_even_where_attention_is_elsewhere():
    attention = box(np.s_[2:9], np.s_[2:9], np.s_[1:4])
    infection = box(np.s_[30:34], np.s_[30:34], np.s_[15:16])
    picture = draw_attention(air(), {"US": attention}, SPACING_MM, "title", infection=infection)
    assert coloured(panel(picture, "axial", 0), INFECTION_COLOUR).any()
    assert not reddish(panel(picture, "axial", 1)).any()


def test_without_infection_the_slice_with_most_attention_is_shown():
    lung, attention = box(np.s_[:], np.s_[:], np.s_[2:4]), box(np.s_[5:9], np.s_[5:9], np.s_[15:16])
    picture = draw_attention(air(), {"US": attention}, SPACING_MM, "title", lung, np.zeros(SHAPE))
    assert reddish(panel(picture, "axial", 1)).any()


def test_attention_outside_the_lungs_does_not_choose_the_slice():
    lung = box(slice(5, 15), slice(10, 30), slice(8, 14))
    inside, outside = box(slice(6, 10), slice(12, 16), slice(12, 13)), box(slice(0, 40), slice(0, 48), slice(2, 4))
    picture = draw_attention(air(), {"A": np.maximum(inside, outside)}, SPACING_MM, "", lung=lung)
    assert coloured(panel(picture, "axial", 0), LUNG_COLOUR).any()


def test_without_attention_the_slice_with_most_lung_is_shown():
    lung = box(np.s_[5:35], np.s_[5:43], np.s_[15:17])
    picture = draw_attention(air(), {"US": np.zeros(SHAPE)}, SPACING_MM, "title", lung)
    assert coloured(panel(picture, "axial", 0), LUNG_COLOUR).any()


def test_each_attention_map_gets_a_column():
    maps = {name: np.zeros(SHAPE) for name in ("US", "SS", "plain")}
    picture = draw_attention(air(), maps, SPACING_MM, "title")
    assert picture.width == 4 * (WIDTH + GAP) + LEFT


def test_a_scan_of_many_fine_voxels_makes_no_giant_picture():
    picture = draw_attention(np.zeros((300, 300, 900), np.float16), {}, (0.5, 0.5, 0.5), "title")
    assert picture.height < 1000


def test_an_array_off_the_grid_of_the_ct_is_named():
    with pytest.raises(ValueError, match=r"CT and SS on one grid.*\(40, 48, 20\) and \(20, 48, 40\).*Invertd"):
        draw_attention(air(), {"SS": np.zeros((20, 48, 40))}, SPACING_MM, "title")


@pytest.mark.parametrize("wrong", [1.2, -0.1, np.nan])
def test_attention_that_is_not_between_0_and_1_is_refused(wrong):
    attention = np.zeros(SHAPE)
    attention[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=r"Attention 'US' has values from .* Expected 0 to 1"):
        draw_attention(air(), {"US": attention}, SPACING_MM, "title")
