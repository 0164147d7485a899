import numpy as np
import pytest
import torch
from custom_components.phantom import make_volume
from custom_components.pictures.slices import window_to_grey
from custom_components.transforms.lungs.body_mask import body_mask
from monai.data import MetaTensor
from monai.transforms import CropForeground


def box(mask: np.ndarray) -> list[tuple[int, int]]:
    return [(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(mask[0])]


def picture(shape: tuple[int, ...] = (203, 171), body: tuple[slice, ...] = (slice(40, 160), slice(61, 120))):
    image = np.full((1, *shape), 0.2, np.float32)
    image[(0, *body)] = 0.85
    return image


def near(found: list[tuple[int, int]], expected: list[tuple[int, int]], pixels: int = 4) -> bool:
    return bool((np.abs(np.subtract(found, expected)) <= pixels).all())


def test_a_table_and_a_line_of_text_are_not_body():
    image = picture()
    image[0, 10:195, 140:146] = 0.9
    image[0, 5:60, 5:8] = 1.0
    assert near(box(body_mask(image)), [(40, 160), (61, 120)])


def test_lungs_are_enclosed():
    image = picture()
    image[0, 60:140, 70:110] = 0.1
    assert near(box(body_mask(image)), [(40, 160), (61, 120)])


def test_a_body_cut_by_the_image_is_kept_to_the_border():
    image = picture(body=(slice(0, 203), slice(0, 171)))
    image[0, 30:90, 20:150], image[0, 110:180, 20:150] = 0.1, 0.1
    assert near(box(body_mask(image)), [(0, 203), (0, 171)])


@pytest.mark.parametrize("grey", [0.0, 1.0, float("nan")])
def test_a_constant_image_is_not_cropped(grey):
    assert body_mask(np.full((1, 30, 41), grey)).all()


def test_a_small_bright_region_is_not_a_body():
    assert body_mask(picture(body=(slice(80, 100), slice(60, 80)))).all()


def test_the_box_of_a_volume_holds_the_body_of_each_slice():
    phantom = make_volume(3, (90, 70, 9), (5.0, 5.5, 30.0))
    grey = window_to_grey(phantom.image_hu)[None]
    body = phantom.image_hu > -300
    found = body_mask(MetaTensor(torch.as_tensor(grey)))
    assert found.shape == grey.shape
    inside = np.zeros(body.shape, bool)
    (left, right), (front, back), (feet, head) = box(found)
    inside[left:right, front:back, feet:head] = True
    assert (body & ~inside).sum() <= 0.01 * body.sum()


def test_monai_crops_to_the_body_with_a_margin():
    cropped = CropForeground(select_fn=body_mask, margin=8, allow_smaller=True)(picture())
    assert abs(cropped.shape[1] - 136) <= 8
    assert abs(cropped.shape[2] - 75) <= 8


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (1, 2, 3, 4, 5)])
def test_another_shape_is_rejected(shape):
    with pytest.raises(ValueError, match=r"Expected an image of shape \(1, X, Y\) or \(1, X, Y, Z\)"):
        body_mask(np.zeros(shape))
