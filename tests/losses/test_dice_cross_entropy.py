import numpy as np
import pytest
import torch
from custom_components.losses.dice_cross_entropy import DiceCrossEntropy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor

from tests.reference.lesion_scores import cross_entropy, soft_dice_loss

LOGITS = hnp.arrays(np.float64, (2, 4, 3, 5), elements=st.floats(-20, 20))
LABELS = hnp.arrays(np.int64, (2, 1, 3, 5), elements=st.sampled_from([0, 1, 2, 3, 255]))


@given(LOGITS, LABELS)
@settings(max_examples=50, deadline=None)
def test_it_equals_the_slow_reference(logits, labels):
    expected = cross_entropy(logits, labels, sigmoid=False) + soft_dice_loss(logits, labels)
    assert DiceCrossEntropy()(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(expected, rel=1e-6)


@given(LOGITS, LABELS, LOGITS)
@settings(max_examples=25, deadline=None)
def test_ignored_pixels_change_neither_loss_nor_gradient(logits, labels, other):
    losses = []
    for values in (logits, np.where(labels == 255, other, logits)):
        tensor = torch.tensor(values, requires_grad=True)
        loss = DiceCrossEntropy()(tensor, torch.tensor(labels))
        loss.backward()
        losses.append(loss.item())
        assert torch.all(tensor.grad[torch.tensor(labels == 255).expand(-1, 4, -1, -1)] == 0)
    assert losses[0] == losses[1]


def test_the_gradient_is_that_of_finite_differences():
    logits = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 255, 1] * 2).reshape(2, 1, 3, 2)
    assert torch.autograd.gradcheck(lambda x: DiceCrossEntropy()(x, labels), (logits,))


def test_a_rare_class_weighs_as_much_as_a_common_one():
    """All of one lesion missed costs a third of the Dice term, however small it is."""
    labels = torch.zeros(1, 1, 64, 64, dtype=torch.int64)
    labels[..., :32, :], labels[..., 40:48, :], labels[..., 60:, :16] = 1, 2, 3
    right = 50 * torch.nn.functional.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
    weight = [0.0, 0.0, 0.0, 0.0]
    for missed in (1, 2, 3):
        logits = right.clone()
        logits[:, 0][labels[:, 0] == missed] = 100
        assert DiceCrossEntropy(weight=weight)(logits, labels).item() == pytest.approx(1 / 3, abs=0.01)


def test_half_precision_and_metadata_do_not_matter():
    logits, labels = torch.randn(1, 4, 5, 6), torch.randint(0, 4, (1, 1, 5, 6))
    loss = DiceCrossEntropy()(MetaTensor(logits.bfloat16()), MetaTensor(labels.float()))
    assert type(loss) is torch.Tensor
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, DiceCrossEntropy()(logits.bfloat16().float(), labels))
