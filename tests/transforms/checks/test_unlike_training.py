import numpy as np
import pytest
from custom_components.transforms.checks.unlike_training import unlike_training

SHAPE = (60, 50, 40)
CT, LUNGS = np.full(SHAPE, -1000, np.float32), np.zeros(SHAPE, np.uint8)
LUNGS[10:50, 10:40, 5:35] = 1


def affine(slice_mm=2.0):
    return np.diag([-2.0, -3.0, slice_mm, 1.0])


@pytest.mark.parametrize("slice_mm", [0.6, 2.0, 3.0, 5.0])
def test_an_ordinary_scan_raises_no_alarm(slice_mm):
    assert unlike_training(CT, LUNGS, affine(slice_mm), "D40s") == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"affine": affine(5.1)}, "Slices are 5.1 mm apart, in training 3 mm"),
        ({"kernel": "B70f"}, "The reconstruction kernel is sharp"),
        ({"has_contrast": True}, "A contrast agent was given"),
        ({"image_hu": np.maximum(CT, -899)}, "No value is below -899 HU"),
        (
            {"lungs": np.roll(LUNGS, -5, axis=2)},
            "Lungs are cut at the lower border of the scan (72 cm2): volumes are those",
        ),
    ],
)
def test_each_difference_is_one_sentence(change, words):
    (sentence,) = unlike_training(**{"image_hu": CT, "lungs": LUNGS, "affine": affine(), **change})
    assert sentence.startswith(words)
    assert sentence.endswith(".")


def test_slices_are_measured_along_the_body_in_any_orientation():
    turned = np.array([[0, 0, 2.0, 0], [0, 3.0, 0, 0], [8.0, 0, 0, 0], [0, 0, 0, 1]])
    assert unlike_training(CT, LUNGS, turned)[0].startswith("Slices are 8 mm apart")
