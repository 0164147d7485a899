import numpy as np
import pytest
import torch
from custom_components.losses.dice_cross_entropy import SMOOTH
from custom_components.losses.partial_label import PartialLabelLoss
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.partial_label import partial_label_loss

SHAPE = (2, 4, 3, 5)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and sets of a batch of two."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    return logits, torch.randint(1, 16, (2, 1, 3, 5), generator=generator)


@given(seeds, st.sampled_from([None, [0.1, 1.0, 2.0, 4.0], [0.0, 1.0, 1.0, 1.0]]))
def test_it_is_the_marginal_cross_entropy(seed, weight):
    logits, sets = drawn(seed)
    expected = partial_label_loss(logits.numpy(), sets.numpy(), weight)
    assert PartialLabelLoss(weight)(logits, sets).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(seeds)
def test_sets_of_one_class_are_the_plain_cross_entropy(seed):
    logits, _ = drawn(seed)
    labels = torch.randint(0, 4, (2, 3, 5), generator=torch.Generator().manual_seed(seed))
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(PartialLabelLoss()(logits, (1 << labels)[:, None]), expected)


@given(seeds)
def test_the_set_of_all_classes_costs_nothing_and_pulls_nowhere(seed):
    logits = drawn(seed)[0].requires_grad_()
    loss = PartialLabelLoss(dice_sets=[[1], [1, 2]])(logits, torch.full((2, 1, 3, 5), 0b1111))
    loss.backward()
    assert PartialLabelLoss()(logits, torch.full((2, 1, 3, 5), 0b1111)).item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@given(seeds)
def test_a_finer_label_never_costs_less(seed):
    logits, sets = drawn(seed)
    finer = sets & -sets  # the lowest class alone
    loss = PartialLabelLoss()
    assert (loss.cross_entropy(logits, finer) >= loss.cross_entropy(logits, sets) - 1e-12).all()


@given(seeds)
def test_the_gradient_raises_possible_classes_and_lowers_the_others(seed):
    logits, sets = drawn(seed)
    logits.requires_grad_()
    PartialLabelLoss()(logits, sets).backward()
    possible = (sets >> torch.arange(4).reshape(1, 4, 1, 1) & 1).bool()
    counted = (sets != 0b1111).expand(SHAPE)
    assert logits.grad is not None
    assert (logits.grad[possible & counted] <= 0).all()
    assert (logits.grad[~possible & counted] >= 0).all()


def test_the_dice_term_of_two_classes_that_cannot_be_told_apart_by_hand():
    """One pixel of the group, one of background, one unknown; p of the group is 1/2 everywhere."""
    logits = torch.zeros(1, 4, 1, 3)
    sets = torch.tensor([0b0110, 0b0001, 0b1111]).reshape(1, 1, 1, 3)
    loss = PartialLabelLoss(dice_sets=[[1, 2]])
    dice = 1 - (2 * 0.5 + SMOOTH) / (0.5 + 0.5 + 1 + SMOOTH)
    expected = (np.log(2) + np.log(4)) / 2 + dice
    assert loss(logits, sets).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("value", [0, 16])
def test_what_is_no_set_of_classes_is_refused(value):
    with pytest.raises(ValueError, match=f"label set has value {value} at 15 pixels. Expected 1 to 15"):
        PartialLabelLoss()(torch.zeros(1, 4, 3, 5), torch.full((1, 1, 3, 5), value))
