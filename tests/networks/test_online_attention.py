import numpy as np
import pytest
import torch
from custom_components.losses.normalized_mse import NormalizedMSELoss
from custom_components.networks.online_attention import OnlineAttention, min_max_normalize, soft_mask
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import dual_sampling as reference


def draw(seed, channels=5, size=(2, 3, 4)):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    return features, torch.randn(1, channels, generator=generator, dtype=torch.float64)


@given(st.integers(0, 1000), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_the_whole_module_is_eq_1_and_2(seed, channels):
    features, weight = draw(seed, channels)
    size = [9, 7, 10]
    found = OnlineAttention()(features, weight, size)
    for scan in range(2):
        activation = reference.class_activation(features[scan].numpy(), weight[0].numpy())
        attention = reference.min_max(reference.upsample(activation, size))
        np.testing.assert_allclose(found[scan, 0].numpy(), reference.soft_mask(attention), atol=1e-9)


def test_scans_of_a_batch_are_normalised_each_by_its_own_least_and_largest_value():
    maps = torch.tensor([[1.0, 2.0, 5.0], [0.0, 0.0, 0.0], [10.0, 40.0, 30.0]]).view(3, 1, 1, 1, 3)
    expected = torch.tensor([[0, 1 / 4, 1], [0, 0, 0], [0, 1, 2 / 3]]).view(3, 1, 1, 1, 3)
    torch.testing.assert_close(min_max_normalize(maps), expected)


def test_the_attention_loss_reaches_the_features_and_never_the_weight():
    features, weight = draw(1)
    features.requires_grad_(), weight.requires_grad_()
    OnlineAttention()(features, weight, [5, 6, 7]).square().sum().backward()
    assert weight.grad is None
    assert float(features.grad.abs().sum()) > 0


def test_the_gradient_in_the_features_is_that_of_the_equations():
    features, weight = draw(2, size=(2, 2, 3))
    attention = OnlineAttention(alpha=3.0)
    assert torch.autograd.gradcheck(lambda f: attention(f, weight, [3, 4, 5]), features.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_attention_loss_of_more_voxels_than_float16_counts_is_that_without(dtype):
    """From a feature map of as many channels as the paper's to Eq. 3."""
    generator = torch.Generator().manual_seed(6)
    features = torch.rand(1, 512, 3, 4, 5, generator=generator).to(dtype)
    weight, size = torch.randn(1, 512, generator=generator), [44, 60, 72]
    mask = torch.zeros(1, 1, *size, dtype=torch.uint8)
    mask[..., 10:30, 20:40, 20:50] = 1
    losses, gradients = [], []
    for tensor, is_half in ((features, True), (features.float(), False)):
        leaf = tensor.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=is_half):
            loss = NormalizedMSELoss()(OnlineAttention()(leaf, weight, size), mask)
        loss.backward()
        losses.append(loss.item())
        gradients.append(leaf.grad.float())
    assert 0 < losses[1] < 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert bool(gradients[0].isfinite().all())
    assert float(gradients[1].norm()) > 0
    off = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert float(off) < torch.finfo(dtype).eps


def test_large_half_precision_features_do_not_overflow():
    features = torch.full((1, 512, 2, 2, 2), 6e4, dtype=torch.float16)
    features[..., 0] = 0
    attention = OnlineAttention().attention(features, torch.ones(1, 512))
    assert attention.unique().tolist() == [0, 1]


def test_the_soft_mask_is_a_half_at_beta_and_rises():
    a = torch.linspace(0, 1, 101, dtype=torch.float64)
    mask = soft_mask(a)
    assert float(mask[40]) == pytest.approx(0.5)
    assert bool((mask.diff() >= 0).all())
    np.testing.assert_allclose(mask.numpy(), reference.soft_mask(a.numpy()), atol=1e-12)


def test_scripted_and_eager_agree():
    features, weight = draw(5)
    attention = OnlineAttention()
    scripted = torch.jit.script(attention)
    torch.testing.assert_close(scripted(features, weight, [5, 6, 7]), attention(features, weight, [5, 6, 7]))
    torch.testing.assert_close(scripted.attention(features, weight, None), attention.attention(features, weight))


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.4), (-1.0, 0.4), (100.0, 1.1), (100.0, -0.1)])
def test_constants_that_mean_nothing_are_refused(alpha, beta):
    with pytest.raises(ValueError, match=r"alpha > 0 and beta in \[0, 1\]"):
        OnlineAttention(alpha, beta)
