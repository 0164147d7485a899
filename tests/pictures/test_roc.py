import numpy as np
import pytest
from custom_components.pictures import roc as roc_figure
from custom_components.pictures.roc import draw_roc

LABELS = [1, 1, 0, 0, 0]


def curve_pixels(picture, rgb):
    """Rows and columns of the pixels of one colour, in the upper three quarters, above the legend."""
    pixels = np.asarray(picture).astype(int)[: picture.height * 3 // 4]
    return np.nonzero(np.abs(pixels - rgb).max(axis=2) <= 2)


def test_the_curve_of_a_perfect_classifier_follows_the_upper_edge_and_its_opposite_does_not():
    blue = (0x00, 0x72, 0xB2)
    perfect = curve_pixels(draw_roc({"P": (LABELS, [0.9, 0.8, 0.3, 0.2, 0.1])}), blue)
    reversed_ = curve_pixels(draw_roc({"P": (LABELS, [0.1, 0.2, 0.7, 0.8, 0.9])}), blue)
    assert np.ptp(perfect[1]) > 700
    assert np.bincount(perfect[0]).max() > 700, "no line across the picture"
    assert len(reversed_[1]) == 0 or reversed_[1].min() > 800


def test_the_legend_names_curve_auc_and_cases():
    legend = roc_figure._legend("P_US", LABELS, [0.9, 0.2, 0.3, 0.1, 0.1])
    assert legend == "P_US: AUC 0.833 (2 COVID-19, 3 CAP)"


def test_curves_of_different_cases_share_a_picture():
    picture = draw_roc({"P_final": (LABELS, [0.9, 0.8, 0.3, 0.2, 0.1]), "P_US": ([1, 0], [0.1, 0.9])}, "group")
    assert (picture.mode, picture.size) == ("RGB", (960, 960))


def test_one_class_alone_has_no_curve():
    with pytest.raises(ValueError, match=r"'P_US' has 2 COVID-19 and 0 CAP cases. Expected both classes"):
        draw_roc({"P_US": ([1, 1], [0.4, 0.6])})
