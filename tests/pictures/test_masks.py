import numpy as np
import pytest
from custom_components.pictures.attention import INFECTION_COLOUR, LUNG_COLOUR
from custom_components.pictures.masks import draw_masks, outlined_rgb


def slice_of():
    """Grey (X, Y) with a lung whose upper right corner, seen by the viewer, is infected."""
    label = np.zeros((40, 50), np.uint8)
    label[5:30, 8:40] = 1
    label[20:29, 9:18] = 2
    return np.full((40, 50), 0.5), label


def test_without_masks_a_slice_is_grey():
    grey, label = slice_of()
    rgb = outlined_rgb(grey, np.zeros_like(label))
    assert rgb.shape == (50, 40, 3)
    assert np.unique(rgb).tolist() == [128]


def test_the_lungs_are_outlined_and_the_infection_tinted():
    rgb = outlined_rgb(*slice_of())
    assert rgb[8, 10].tolist() == list(LUNG_COLOUR)
    assert rgb[30, 15].tolist() == [128, 128, 128]
    assert rgb[9, 22].tolist() == list(INFECTION_COLOUR)
    inside = rgb[13, 24].astype(int)
    assert inside[0] > 128 > inside[2]


def test_rows_run_to_posterior_and_columns_to_left():
    rgb = outlined_rgb(*slice_of()).astype(int)
    yellow = (rgb[..., 0] - rgb[..., 2]) > 40
    rows, columns = np.nonzero(yellow)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 17, 20, 28)


def test_panels_stand_side_by_side_in_true_proportion():
    grey, label = slice_of()
    one = draw_masks(grey, {"truth": label}, "a", (1.0, 1.0))
    two = draw_masks(grey, {"truth": label, "prediction": label}, "a", (1.0, 1.0))
    tall = draw_masks(grey, {"truth": label, "prediction": label}, "a", (1.0, 2.0))
    assert two.width > one.width
    assert tall.width < two.width
    assert tall.height == two.height


def test_a_label_map_of_another_grid_is_refused():
    grey, label = slice_of()
    with pytest.raises(ValueError, match="Expected a slice"):
        draw_masks(grey, {"truth": label.T}, "a")
