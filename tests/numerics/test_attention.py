import pytest
import torch
from custom_components import NormalizedMSELoss, OnlineAttention
from custom_components.networks.online_attention import min_max_normalize

from tests.numerics.precision import EPSILON, HALF
from tests.reference.dual_sampling import class_activation, min_max, upsample

WEIGHT = torch.tensor([[0.3, 0.5, -0.2]])


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 2, 4)])
@pytest.mark.parametrize("value", [-1.0, 0.0, 1e-40, 1e-30, 0.1, 1.0, 3.3, 1e4])
def test_a_constant_map_shows_nothing_also_when_it_is_upsampled(value, size):
    """Interpolation rounds a constant; stretched to [0, 1] the rounding would be the attention."""
    attention = OnlineAttention().attention(torch.full((1, 3, *size), value), WEIGHT, [31, 22, 37])
    assert not attention.any()


@pytest.mark.parametrize("extent", [0.0, 1e-45, 1e-42, 1e-38, 1e-30, 1e-20, 1e-14, 1e-6, 1.0])
@pytest.mark.parametrize("selected", [None, (0, 1), (0, 0)])
def test_the_gradient_is_finite_however_faint_a_map(extent, selected):
    features = torch.zeros(2, 1, 2, 2, 2)
    features[0, 0, 0, 0, 0], features[1] = extent, torch.rand(1, 2, 2, 2)
    features.requires_grad_()
    mask = torch.zeros(2, 1, 5, 6, 7)
    mask[..., 2] = 1
    chosen = None if selected is None else torch.tensor(selected)
    loss = NormalizedMSELoss()(OnlineAttention()(features, torch.ones(1, 1), [5, 6, 7]), mask, chosen)
    loss.backward()
    assert loss.isfinite()
    assert torch.linalg.vector_norm(features.grad).isfinite()


def test_a_faint_map_is_stretched_as_any_other():
    strong = torch.rand(1, 1, 3, 4, 5)
    torch.testing.assert_close(min_max_normalize(1e-12 * strong), min_max_normalize(strong))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_under_autocast_the_map_is_that_of_the_rounded_features(dtype):
    """Nothing after the features is computed in half precision: the NumPy loop agrees to float32's rounding."""
    features = torch.rand(1, 3, 3, 2, 4).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = OnlineAttention().attention(features, WEIGHT, [7, 5, 9])
    expected = min_max(upsample(class_activation(features[0].double().numpy(), WEIGHT[0].numpy()), (7, 5, 9)))
    assert found.dtype == torch.float32
    assert abs(found[0, 0].double().numpy() - expected).max() < 20 * EPSILON[torch.float32]
