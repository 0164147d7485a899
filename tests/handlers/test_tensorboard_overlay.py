import numpy as np
import pytest
import torch
from custom_components.handlers.tensorboard_overlay import TensorBoardOverlay, panels_rgb

from tests.handlers.evaluator import evaluator_of


class Writer:
    def __init__(self):
        self.images = []

    def add_image(self, tag, image, step):
        self.images.append((tag, image.shape, step))


def run(epochs, **more):
    writer = Writer()
    batch = {"image": torch.rand(2, 1, 5, 6), "label": torch.ones(2, 1, 5, 6)}
    evaluator = evaluator_of([batch] * 4, TensorBoardOverlay(writer, **more))
    for epoch in epochs:
        evaluator.run(epoch)
    return writer.images


def test_three_cases_are_shown_at_each_epoch_of_the_interval():
    shown = run([1, 2, 3, 4], interval=2)
    assert [(tag, step) for tag, _, step in shown] == [(f"overlay/{i}", epoch) for epoch in (2, 4) for i in range(3)]
    assert {shape for _, shape, _ in shown} == {(3, 6, 15)}


def test_for_a_volume_the_slice_with_most_lesion_is_shown():
    image, truth, predicted = torch.zeros(1, 5, 6, 7), torch.zeros(1, 5, 6, 7), torch.zeros(4, 5, 6, 7)
    image[..., 4] = 0.5
    truth[0, 0, 0, 4] = 1
    truth[0, 0, 0, 2] = 255
    predicted[0] = 1
    panels = panels_rgb({"image": image, "label": truth, "pred": predicted})
    assert panels.shape == (3, 6, 15)
    assert panels[:, 0, 0] == pytest.approx([0.5, 0.5, 0.5])
    assert np.ptp(panels[:, 0, 5]) > 0.2, "the truth panel shows no lesion"
    assert np.array_equal(panels[:, :, 10:], panels[:, :, :5]), "background is predicted, so nothing is coloured"
