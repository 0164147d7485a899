import pytest
import torch
from custom_components import NormalizedMSELoss, PixelCrossEntropy
from custom_components.networks.dual_sampling import ensemble_logit

from tests.numerics.precision import HALF

TYPES = [torch.float32, *HALF]
SIZE = (3, 4, 5)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("full", [0, 1])
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-42, 1e-30, 0.5, 1.0])
def test_the_attention_loss_is_finite_for_any_map_and_mask(value, full, dtype):
    attention = torch.full((1, 1, *SIZE), value, dtype=dtype, requires_grad=True)
    loss = NormalizedMSELoss()(attention, torch.full((1, 1, *SIZE), full))
    loss.backward()
    assert 0 <= loss.item() <= 1
    assert attention.grad.isfinite().all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("weight", [None, [0.0, 0.0, 0.0, 0.0], [0.1, 1.0, 1.0, 1.0]])
@pytest.mark.parametrize("label", [0, 3, 255])
def test_cross_entropy_is_finite_for_any_logit(label, weight, sigmoid, dtype):
    for value in (0.0, 1.0, -1.0, 1e-30, 6e4, -6e4):
        logits = torch.zeros(1, 4, 5, 6, dtype=dtype).index_fill(1, torch.tensor([1]), value).requires_grad_()
        loss = PixelCrossEntropy(weight=weight, sigmoid=sigmoid)(logits, torch.full((1, 1, 5, 6), label))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
        if label == 255:
            assert loss.item() == 0
            assert not logits.grad.any()


@pytest.mark.parametrize("weight", [0.0, 0.35, 0.96, 1.0])
def test_the_ensemble_of_any_two_logits_is_finite_with_its_gradient(weight):
    values = torch.tensor([-1e4, -200.0, -1e-30, 0.0, 90.0, 1e4])
    first, second = (grid.flatten().requires_grad_() for grid in torch.meshgrid(values, values, indexing="ij"))
    joint = ensemble_logit(first, second, torch.full_like(first, weight))
    joint.sum().backward()
    assert all(value.isfinite().all() for value in (joint, first.grad, second.grad))
    between = (torch.minimum(first, second) - 1e-3 <= joint) & (joint <= torch.maximum(first, second) + 1e-3)
    assert between.all()
