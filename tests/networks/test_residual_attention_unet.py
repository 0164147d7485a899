import numpy as np
import pytest
import torch
from custom_components import ResidualAttentionUNet
from custom_components.networks.residual_attention_unet import ResNeXtBlock
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference.residual_attention_unet import residual_attention_unet

SMALL = {"features": (8, 16, 32), "cardinality": 4, "bucket_size": 8}
TABLE_II = [("resnext", "lsh"), ("resnext", "none"), ("plain", "lsh"), ("plain", "none"), ("resnext", "full")]


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@settings(max_examples=10, deadline=None)
@given(height=st.integers(32, 80), width=st.integers(32, 80))
def test_any_size_from_32_up_comes_back(height, width):
    network = ResidualAttentionUNet(features=(4, 8, 16, 32, 64), cardinality=2, bucket_size=16).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, height, width)).shape == (1, 4, height, width)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("encoder", "attention"), TABLE_II)
def test_the_whole_network_is_the_pixel_by_pixel_one(encoder, attention, seed):
    """Odd sizes on every level, three classes and random normalisation: pooling, crop, skips, order of channels."""
    torch.manual_seed(seed)
    options = {"features": (4, 8, 16), "cardinality": 2, "num_heads": 2, "bucket_size": 6, "num_rounds": 3}
    network = ResidualAttentionUNet(out_channels=3, encoder=encoder, attention=attention, **options).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    images = torch.randn(2, 1, 9, 13, dtype=torch.float64)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    lsh = [stage.attention for stage in network.decoder] if attention == "lsh" else []
    rotations = {block.head_dim: block.eval_rotations.numpy() for block in lsh}
    attend = None if attention == "none" else {"heads": 2, "rotations": rotations, "bucket_size": 6}
    with torch.no_grad():
        found = network(images)
    for image, logits in zip(images, found, strict=True):
        expected = residual_attention_unet(image.numpy(), weights, 3, encoder, 2, attend)
        np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-8, atol=1e-8)


def test_default_width_is_below_25_megabytes_in_half_precision():
    state = ResidualAttentionUNet().state_dict()
    assert sum(2 * value.numel() for value in state.values()) < 25e6


def test_attention_has_buckets_of_32_pixels_and_two_rounds_by_default():
    blocks = [stage.attention for stage in ResidualAttentionUNet().decoder]
    assert {(block.bucket_size, block.num_rounds, block.num_heads) for block in blocks} == {(32, 2, 4)}


def test_the_ablations_differ_as_table_ii_says():
    full, no_attention = ResidualAttentionUNet(), ResidualAttentionUNet(attention="none")
    plain = ResidualAttentionUNet(encoder="plain")
    assert parameters(full) == 6_290_948
    assert parameters(full) - parameters(no_attention) == sum(3 * c * c + c for c in (64, 128, 256, 512))
    assert any("grouped" in name for name in full.state_dict())
    assert not any("grouped" in name for name in plain.state_dict())


def test_normalisation_keeps_channels_last():
    image = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    normalised = ResNeXtBlock(2, 6, 6, cardinality=3).restore.adn.N(image)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_three_dimensions_work_too():
    network = ResidualAttentionUNet(spatial_dims=3, **SMALL)
    assert network(torch.randn(1, 1, 9, 10, 11)).shape == (1, 4, 9, 10, 11)


def test_every_parameter_gets_a_gradient():
    network = ResidualAttentionUNet(**SMALL)
    network(torch.randn(1, 1, 32, 40)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_scripted_network_equals_the_eager_one_on_another_size():
    network = ResidualAttentionUNet(**SMALL).eval()
    scripted = torch.jit.script(network)
    for size in ((32, 32), (45, 51)):
        image = torch.randn(2, 1, *size)
        torch.testing.assert_close(scripted(image), network(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vgg"}, "resnext, plain"),
        ({"attention": "soft"}, "lsh, full, none"),
        ({"features": (8, 17)}, "each twice"),
        ({"features": (4, 8), "cardinality": 8}, "must divide"),
    ],
)
def test_unknown_switches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualAttentionUNet(**options)


def test_an_image_too_small_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="pad it to 32"):
        ResidualAttentionUNet()(torch.zeros(1, 1, 31, 64))


@pytest.mark.parametrize("attention", ["lsh", "full"])
def test_attention_that_starts_as_nothing_leaves_the_network_without_it(attention):
    plain = ResidualAttentionUNet(**SMALL, attention="none").eval()
    attending = ResidualAttentionUNet(**SMALL, attention=attention, zero_init_attention=True)
    attending.load_state_dict({**attending.state_dict(), **plain.state_dict()})
    image = torch.rand(1, 1, 33, 40)
    assert torch.equal(attending.eval()(image), plain(image))
    attending(image).square().mean().backward()
    assert all(stage.attention.to_out.weight.grad.abs().max() > 0 for stage in attending.decoder)
