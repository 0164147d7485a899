import itertools

import numpy as np
import pytest
from custom_components.pictures.overlay import LESION_COLOURS, draw_overlay, overlay_rgb, slices_to_show, window_to_grey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

GREY = hnp.arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32))
LABEL = hnp.arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 255]))

# Machado et al. 2009, severity 1, in linear RGB
COLOUR_VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(rgb):
    rgb = np.array(rgb) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb, vision):
    x, y, z = np.cbrt(TO_XYZ @ np.clip(vision @ linear(rgb), 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_every_eye_tells_the_lesions_apart(vision):
    colours = [lab(colour, np.array(COLOUR_VISION[vision])) for colour in LESION_COLOURS.values()]
    assert all(np.linalg.norm(a - b) > 20 for a, b in itertools.combinations(colours, 2))
    assert all(np.linalg.norm(colour[1:]) > 15 for colour in colours), "a lesion looks grey like the CT"


def test_the_colours_stand_out_from_the_lung():
    lung = TO_XYZ[1] @ linear((60, 60, 60)) + 0.05
    assert all((TO_XYZ[1] @ linear(colour) + 0.05) / lung > 3 for colour in LESION_COLOURS.values())


@given(GREY, LABEL)
@settings(max_examples=30, deadline=None)
def test_only_lesions_are_coloured(grey, label):
    rgb = overlay_rgb(grey, label)
    assert rgb.shape == (3, 6, 5)
    for x, y in np.ndindex(label.shape):
        colours = {1: "ground_glass", 2: "consolidation", 3: "pleural_effusion"}
        expected = np.full(3, grey[x, y])
        if label[x, y] in colours:
            expected = 0.35 * expected + 0.65 * np.array(LESION_COLOURS[colours[label[x, y]]]) / 255
        np.testing.assert_allclose(rgb[:, y, x], expected, atol=1e-6)


def test_an_overlay_needs_a_slice_and_its_label_map():
    with pytest.raises(ValueError, match=r"\(5, 6\) and \(6, 5\)"):
        overlay_rgb(np.zeros((5, 6)), np.zeros((6, 5)))


def test_the_lung_window_is_black_at_minus_1350_and_white_at_150_hu():
    assert window_to_grey(np.array([-1350, -1000, 150])).tolist() == pytest.approx([0, 350 / 1500, 1])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.5, 12), st.integers(0, 6))
@settings(max_examples=60)
def test_the_slices_shown_have_lesion_and_lie_a_centimetre_apart(pixels, spacing_mm, most):
    shown = slices_to_show(np.array(pixels), spacing_mm, most)
    assert len(shown) <= most
    assert shown == sorted(shown)
    assert all((b - a) * spacing_mm >= 10 for a, b in itertools.pairwise(shown))
    if any(pixels):
        assert all(pixels[index] for index in shown)
        assert most == 0 or pixels.index(max(pixels)) in shown


def test_the_slices_with_most_lesion_come_first():
    assert slices_to_show(np.array([5, 0, 7, 0, 6, 0, 8]), spacing_mm=6.0, max_slices=2) == [2, 6]


def test_without_lesion_the_middle_slice_is_shown():
    assert slices_to_show(np.zeros(7), spacing_mm=5.0) == [3]


def lesion_box(picture, panel_left, panel_width, colour):
    pixels = np.asarray(picture).astype(int)[40:-30, panel_left : panel_left + panel_width]
    rows, columns = np.nonzero(np.abs(pixels - colour).max(axis=2) <= 1)
    return rows, columns


def test_the_patients_right_front_is_drawn_at_the_upper_left():
    image_hu = np.full((50, 60), -1350.0)
    label = np.zeros((50, 60), dtype=np.uint8)
    label[:10, :15] = 2  # x small: right; y small: anterior
    picture = draw_overlay(image_hu, {"prediction": label}, "slice 0")
    blended = np.round(0.65 * np.array(LESION_COLOURS["consolidation"]))
    panel_width = 320  # 50 of 60 pixels at 384 / 60
    assert len(lesion_box(picture, 8, panel_width, blended)[0]) == 0
    rows, columns = lesion_box(picture, 8 + panel_width + 8, panel_width, blended)
    assert columns.min() == 0
    assert columns.max() + 1 == 64
    assert np.ptp(rows) + 1 == 96
    assert rows.max() < 110


def test_pixels_that_are_not_square_are_drawn_in_proportion():
    square = draw_overlay(np.zeros((500, 500)), {}, "slice 0")
    tall = draw_overlay(np.zeros((500, 500)), {}, "slice 0", pixel_mm=(1.0, 2.0))
    assert tall.height - square.height == 500


def test_each_label_map_gets_a_panel():
    label = np.zeros((500, 40), dtype=np.uint8)
    one = draw_overlay(np.zeros((500, 40)), {"prediction": label}, "slice 0")
    two = draw_overlay(np.zeros((500, 40)), {"truth": label, "prediction": label}, "slice 0")
    assert two.width - one.width == 508
