import math

import pytest
import torch
from custom_components import AttentionGuidedLoss, NormalizedMSELoss, PixelCrossEntropy
from custom_components.networks.dual_sampling import ensemble_logit

from tests.numerics.precision import EPSILON, HALF
from tests.reference.dual_sampling import normalized_mse

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
def test_the_attention_loss_is_the_voxel_loop_to_the_rounding_of_its_input(dtype):
    """Half precision rounds the map by half an epsilon at most; the sums add float32's own."""
    attention, mask = torch.rand(1, 1, *SIZE), (torch.rand(1, 1, *SIZE) > 0.5).float()
    expected = normalized_mse(attention[0, 0].double().numpy(), mask[0, 0].numpy())
    assert NormalizedMSELoss()(attention.to(dtype), mask).item() == pytest.approx(expected, rel=2 * EPSILON[dtype])


@pytest.mark.parametrize("weight", [0.5, 0.0])
@pytest.mark.parametrize("logit", [0.0, 1e-30, -1e4, 1e4, 1e30])
def test_without_a_covid_scan_the_total_loss_is_the_classification_loss_and_attention_has_no_gradient(logit, weight):
    prediction = {
        "logit": torch.full((2, 1), logit, requires_grad=True),
        "attention": torch.rand(2, 1, *SIZE, requires_grad=True),
    }
    target = {"label": torch.zeros(2), "infection": torch.ones(2, 1, *SIZE)}
    loss = AttentionGuidedLoss(weight)(prediction, target)
    loss.backward()
    assert loss.item() == pytest.approx(max(logit, 0) + math.log1p(math.exp(-abs(logit))), rel=1e-6)
    assert prediction["logit"].grad.isfinite().all()
    assert prediction["attention"].grad is None or not prediction["attention"].grad.any()


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


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_cross_entropy_of_half_precision_logits_is_that_of_the_rounded_ones(dtype):
    logits, labels = (8 * torch.randn(2, 4, 5, 6)).to(dtype), torch.randint(0, 4, (2, 1, 5, 6))
    exact = PixelCrossEntropy()(logits.double(), labels).item()
    assert PixelCrossEntropy()(logits, labels).item() == pytest.approx(exact, rel=10 * EPSILON[torch.float32])


@pytest.mark.parametrize("weight", [0.0, 0.35, 0.96, 1.0])
def test_the_ensemble_of_any_two_logits_is_finite_with_its_gradient(weight):
    values = torch.tensor([-1e4, -200.0, -1e-30, 0.0, 90.0, 1e4])
    first, second = (grid.flatten().requires_grad_() for grid in torch.meshgrid(values, values, indexing="ij"))
    joint = ensemble_logit(first, second, torch.full_like(first, weight))
    joint.sum().backward()
    assert all(value.isfinite().all() for value in (joint, first.grad, second.grad))
    between = (torch.minimum(first, second) - 1e-3 <= joint) & (joint <= torch.maximum(first, second) + 1e-3)
    assert between.all()
