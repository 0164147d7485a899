import numpy as np
import pytest
import torch
from custom_components.losses.partial_label import PartialLabelLoss
from custom_components.losses.pixel_cross_entropy import PixelCrossEntropy
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.partial_label import partial_label_loss

EVERYTHING = 0b1111


def logits_of(seed: int, *shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sets_of(seed: int, *shape: int, first: int = 1) -> torch.Tensor:
    return torch.randint(first, 16, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("groups", [[], [[1], [2], [3], [1, 2]]])
@given(seed=st.integers(0, 99))
def test_it_equals_the_slow_reference(groups: list[list[int]], seed: int) -> None:
    logits, sets, weight = logits_of(seed, 2, 4, 3, 5), sets_of(seed, 2, 1, 3, 5), [0.5, 1.0, 2.0, 4.0]
    expected = partial_label_loss(logits.reshape(2, 4, 15).numpy(), sets.reshape(2, 15).numpy(), weight, groups)
    assert PartialLabelLoss(weight, groups)(logits, sets).item() == pytest.approx(expected, rel=1e-5)


@given(seed=st.integers(0, 99))
def test_full_labels_are_the_plain_cross_entropy(seed: int) -> None:
    logits, labels = logits_of(seed, 2, 4, 3, 5, 6), sets_of(seed, 2, 1, 3, 5, 6, first=0) % 4
    weight = [0.5, 1.0, 2.0, 4.0]
    plain = PixelCrossEntropy(weight=weight)(logits, labels)
    assert torch.allclose(PartialLabelLoss(weight)(logits, 1 << labels), plain)


def test_the_union_of_all_classes_costs_nothing_and_has_no_gradient() -> None:
    logits = logits_of(0, 1, 4, 3, 5).requires_grad_()
    loss = PartialLabelLoss(dice_sets=[[1], [1, 2]])(logits, torch.full((1, 1, 3, 5), EVERYTHING))
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert not logits.grad.any()


@given(seed=st.integers(0, 99))
def test_the_loss_of_a_pixel_is_never_lower_with_a_more_precise_label(seed: int) -> None:
    logits, coarse, more = logits_of(seed, 1, 4, 5, 7), sets_of(seed, 1, 1, 5, 7), sets_of(seed + 100, 1, 1, 5, 7)
    fine = torch.where((coarse & more) > 0, coarse & more, coarse)
    loss = PartialLabelLoss()
    assert (loss.cross_entropy(logits, fine) >= loss.cross_entropy(logits, coarse) - 1e-9).all()


def test_the_gradient_is_towards_the_set_and_equal_for_its_classes() -> None:
    logits = torch.zeros(1, 4, 1, 1, requires_grad=True)
    PartialLabelLoss()(logits, torch.tensor(0b0110).reshape(1, 1, 1, 1)).backward()
    assert np.allclose(logits.grad.flatten(), [0.25, -0.25, -0.25, 0.25])


def test_an_excluded_class_that_the_network_is_sure_of_has_a_finite_gradient() -> None:
    logits = torch.tensor([1000.0, 0.0, 0.0, 0.0]).reshape(1, 4, 1, 1).requires_grad_()
    PartialLabelLoss()(logits, torch.tensor(0b0110).reshape(1, 1, 1, 1)).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(("value", "given_shape"), [(0, (1, 1, 2, 3)), (16, (1, 1, 2, 3)), (1, (1, 1, 3, 2))])
def test_invalid_sets_are_rejected(value: int, given_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Encode the labels|on the grid of the logits"):
        PartialLabelLoss()(torch.zeros(1, 4, 2, 3), torch.full(given_shape, value))


def test_weights_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected 4 weights, one per class, got 3"):
        PartialLabelLoss([1.0, 1.0, 1.0])(torch.zeros(1, 4, 2, 3), torch.ones(1, 1, 2, 3))
