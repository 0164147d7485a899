import itertools

import numpy as np
import pytest
from custom_components.pictures.overlay import (
    INFECTION_COLOUR,
    LESION_COLOURS,
    LUNG_COLOUR,
    blend,
    border,
    heat_scale,
    heated,
)
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
@pytest.mark.parametrize("used", [(*LESION_COLOURS.values(), INFECTION_COLOUR), (LUNG_COLOUR, INFECTION_COLOUR)])
def test_colours_are_distinct_from_each_other_and_from_grey_with_any_colour_vision(vision, used):
    colours = [lab(colour, np.array(COLOUR_VISION[vision])) for colour in used]
    assert all(np.linalg.norm(a - b) > 20 for a, b in itertools.combinations(colours, 2))
    assert all(np.linalg.norm(colour[1:]) > 15 for colour in colours), "a colour looks grey like the CT"


@pytest.mark.parametrize("colour", [*LESION_COLOURS.values(), LUNG_COLOUR, INFECTION_COLOUR])
def test_the_colours_stand_out_from_the_lung(colour):
    lung = TO_XYZ[1] @ linear((60, 60, 60)) + 0.05
    assert (TO_XYZ[1] @ linear(colour) + 0.05) / lung > 3


@given(GREY, LABEL)
@settings(max_examples=30, deadline=None)
def test_only_lesions_are_coloured(grey, label):
    rgb = blend(grey, label, 0.65)
    assert rgb.shape == (5, 6, 3)
    for place in np.ndindex(label.shape):
        colours = {1: "ground_glass", 2: "consolidation", 3: "pleural_effusion"}
        expected = np.full(3, grey[place])
        if label[place] in colours:
            expected = 0.35 * expected + 0.65 * np.array(LESION_COLOURS[colours[label[place]]]) / 255
        np.testing.assert_allclose(rgb[place], expected, atol=1e-6)


@given(GREY, GREY)
@settings(max_examples=30, deadline=None)
def test_heat_decreases_with_the_attention_and_the_rest_stays_grey(grey, attention):
    attention = attention * np.float32(0.49)  # below the outline
    rgb = heated(grey, attention)
    assert rgb.shape == (5, 6, 3)
    assert rgb.min() >= 0
    assert rgb.max() <= 1 + 1e-6
    assert np.all(np.abs(rgb - grey[..., None]).max(axis=2) <= 0.7 * attention + 1e-6)


def test_attention_of_one_half_is_outlined_in_white():
    attention = np.zeros((9, 8))
    attention[2:7, 3:6] = 0.5
    white = np.all(heated(np.zeros((9, 8)), attention) == 1, axis=2)
    assert white.sum() == 15 - 3
    assert not white[3:6, 4].any()


def test_more_attention_is_brighter_in_grey_print():
    grey = heat_scale(112, 20)[0] @ (0.299, 0.587, 0.114)
    assert np.all(np.diff(grey) >= -1 / 255)
    assert grey[-1] - grey[0] > 60 / 255


def test_the_edge_of_the_picture_is_not_a_border():
    mask = np.zeros((6, 7))
    mask[:4, :5] = 1
    assert [border(mask, line)[:4, :5].sum() for line in (1, 2)] == [8, 14]


def test_an_overlay_needs_a_slice_and_its_label_map():
    with pytest.raises(ValueError, match=r"\(5, 6\) and \(6, 5\)"):
        blend(np.zeros((5, 6)), np.zeros((6, 5)), 1)
