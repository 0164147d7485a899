import numpy as np
import pytest
from custom_components.pictures.figures import LESIONS, MASKS, draw_attention, draw_slice, outlined_masks
from custom_components.pictures.overlay import INFECTION_COLOUR, LESION_COLOURS, LUNG_COLOUR
from PIL import ImageFont

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


def heat(pixels):
    return (pixels[..., 0] > 60) & (pixels[..., 0] > 1.3 * pixels[..., 2])


def coloured(pixels, colour):
    return np.abs(pixels - colour).max(axis=2) <= 1


def lesions(picture, column):
    """Where consolidation is, in a column of panels of 320 x 384 pixels."""
    pixels = np.asarray(picture).astype(int)[TOP : TOP + 384, LEFT + column * 328 :][:, :320]
    return coloured(pixels, np.round(0.65 * np.array(LESION_COLOURS["consolidation"])))


def test_the_patients_right_front_is_drawn_at_the_upper_left():
    label = np.zeros((50, 60), dtype=np.uint8)
    label[:10, :15] = 2  # x small: right; y small: anterior
    picture = draw_slice(np.full((50, 60), -1350.0), {"prediction": label}, "slice 0")
    assert not lesions(picture, 0).any()
    assert extent(lesions(picture, 1)) == (0, 15 / 60, 0, 10 / 50)


@pytest.mark.parametrize("layer", [LESIONS, MASKS])
def test_slices_are_drawn_in_proportion_with_a_panel_for_each_label_map(layer):
    image_hu, label = np.zeros((500, 400)), np.zeros((500, 400), dtype=np.uint8)
    labels = ({}, {"prediction": label}, {"truth": label, "prediction": label})
    plain, one, two = (draw_slice(image_hu, more, "slice 0", layer=layer) for more in labels)
    assert two.width - one.width == one.width - max(plain.width, 516) == 508
    tall = draw_slice(image_hu, labels[1], "slice 0", (1.0, 2.0), layer)
    assert (tall.width, tall.height - one.height) == (one.width, 400)


@pytest.mark.parametrize("layer", [LESIONS, MASKS])
def test_a_label_map_of_another_grid_is_refused(layer):
    with pytest.raises(ValueError, match=r"Expected a slice .*truth on one grid, got \(40, 50\) and \(50, 40\)"):
        draw_slice(np.zeros((40, 50)), {"truth": np.zeros((50, 40))}, "a", layer=layer)


def test_a_long_title_is_not_cut():
    title = "a case of a very long name, " * 6
    picture = draw_slice(np.zeros((32, 32)), {}, title)
    assert picture.width == pytest.approx(ImageFont.load_default(15).getlength(title) + 2 * LEFT, abs=1)


def test_the_legend_names_the_colours_that_the_panels_have():
    pixels = np.asarray(draw_slice(np.zeros((32, 32)), {}, "a")).astype(int)
    for colour in LESION_COLOURS.values():
        assert coloured(pixels[TOP + 384 :], colour).sum() == 16 * 16


def test_the_lungs_are_outlined_and_the_infection_tinted():
    label = np.zeros((50, 40), np.uint8)
    label[8:40, 5:30] = 1
    label[9:18, 20:29] = 2
    rgb = (outlined_masks(np.full((50, 40), 0.5), label) * 255).round()
    assert rgb[8, 10].tolist() == list(LUNG_COLOUR)
    assert rgb[30, 15].tolist() == rgb[2, 2].tolist() == [128, 128, 128]
    assert rgb[9, 22].tolist() == list(INFECTION_COLOUR)
    assert rgb[13, 24].tolist() == np.round(0.65 * 127.5 + 0.35 * np.array(INFECTION_COLOUR)).tolist()


def test_attention_at_the_left_back_top_appears_right_below_and_above():
    attention = box(np.s_[30:36], np.s_[36:42], np.s_[15:18])  # x to Left, y to Posterior, z to Superior
    picture = draw_attention(air(), {"US": attention}, SPACING_MM, "title")
    axial, coronal = (extent(heat(panel(picture, view, 1))) for view in ("axial", "coronal"))
    assert axial == pytest.approx((36 / 48, 42 / 48, 30 / 40, 36 / 40), abs=0.03)
    assert coronal == pytest.approx((2 / 20, 5 / 20, 30 / 40, 36 / 40), abs=0.05)
    assert not heat(panel(picture, "axial", 0)).any()


def test_both_views_are_in_proportion_and_of_one_scale():
    ball = np.linalg.norm((np.indices(SHAPE).T + 0.5) * SPACING_MM - (40, 24, 30), axis=-1).T < 15
    picture = draw_attention(air(), {}, SPACING_MM, "title", infection=ball)
    for view, height in (("axial", DEPTH), ("coronal", HEIGHT)):
        top, bottom, left, right = extent(coloured(panel(picture, view, 0), INFECTION_COLOUR))
        assert (right - left) * WIDTH == pytest.approx(30 * 4.8, abs=12)
        assert (bottom - top) * height == pytest.approx(30 * 4.8, abs=15)


@pytest.mark.parametrize("thickness_mm", [0.5, 8.0])
def test_thin_and_thick_slices_have_the_same_body_mask(thickness_mm):
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
    assert not heat(panel(picture, "axial", 1)).any()


def test_without_infection_the_slice_with_most_attention_is_shown():
    lung, attention = box(np.s_[:], np.s_[:], np.s_[2:4]), box(np.s_[5:9], np.s_[5:9], np.s_[15:16])
    picture = draw_attention(air(), {"US": attention}, SPACING_MM, "title", lung, np.zeros(SHAPE))
    assert heat(panel(picture, "axial", 1)).any()


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
    assert draw_attention(air(), maps, SPACING_MM, "title").width == 4 * (WIDTH + GAP) + LEFT


def test_a_scan_of_many_fine_voxels_makes_no_giant_picture():
    assert draw_attention(np.zeros((300, 300, 900), np.float16), {}, (0.5, 0.5, 0.5), "title").height < 1000


def test_an_array_off_the_grid_of_the_ct_is_named():
    with pytest.raises(ValueError, match=r"CT and SS on one grid.*\(40, 48, 20\) and \(20, 48, 40\).*Invertd"):
        draw_attention(air(), {"SS": np.zeros((20, 48, 40))}, SPACING_MM, "title")


@pytest.mark.parametrize("wrong", [1.2, -0.1, np.nan])
def test_attention_that_is_not_between_0_and_1_is_refused(wrong):
    attention = np.zeros(SHAPE)
    attention[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=r"Attention 'US' has values from .* Expected 0 to 1"):
        draw_attention(air(), {"US": attention}, SPACING_MM, "title")
