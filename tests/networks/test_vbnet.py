import pytest
import torch
from custom_components.networks.vbnet import VBNet
from torch import nn

from tests.reference import vbnet as reference

TINY = {"features": (4, 8, 16), "convolutions": (1, 2), "bottleneck_from": 16}
SIZE = (13, 22, 17)


def tiny(**changes):
    return VBNet(**{**TINY, **changes})


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_whole_network_is_the_step_by_step_one():
    network = tiny(out_channels=5).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    image = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    expected = reference.vbnet(image, network.state_dict(), TINY["convolutions"])
    torch.testing.assert_close(network(image), expected, rtol=1e-8, atol=1e-8)


def test_parameters_are_those_of_the_layers_counted_by_hand():
    """Plain convolutions below 64 channels, bottlenecks of a quarter from there on, each norm two numbers a channel."""

    def conv(kernel, taken, given):
        return kernel**3 * taken * given + 2 * given

    def bottleneck(channels):
        few = channels // 4
        return conv(1, channels, few) + conv(3, few, few) + conv(1, few, channels)

    stem, head = conv(3, 1, 16), 32 * 3 + 3
    down = [conv(2, 16, 32) + conv(3, 32, 32), conv(2, 32, 64) + 2 * conv(3, 64, 64)]
    down += [conv(2, 64, 128) + 3 * bottleneck(128), conv(2, 128, 256) + 3 * bottleneck(256)]
    up = [conv(2, 256, 128) + 3 * bottleneck(256), conv(2, 256, 64) + 3 * bottleneck(128)]
    up += [conv(2, 128, 32) + 2 * bottleneck(64), conv(2, 64, 16) + conv(3, 32, 32)]
    assert parameters(VBNet()) == stem + sum(down) + sum(up) + head == 2_161_619


@pytest.mark.parametrize("size", [(16, 32, 48), (15, 33, 50), (1, 7, 3)])
def test_logits_have_the_size_of_the_image(size):
    with torch.no_grad():
        assert VBNet().eval()(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_channels_and_dimensions_can_be_set():
    network = tiny(spatial_dims=2, in_channels=2, out_channels=5).eval()
    assert network(torch.rand(3, 2, 9, 14)).shape == (3, 5, 9, 14)


def test_zeros_appended_by_the_caller_change_nothing():
    network, image = tiny().eval(), torch.rand(1, 1, *SIZE)
    padded = nn.functional.pad(image, [0, 3, 0, 2, 0, 3])
    torch.testing.assert_close(network(padded)[..., :13, :22, :17], network(image))


def test_brighter_scans_of_more_contrast_look_the_same_to_it():
    """What instance normalisation is there for; borders apart, where zeros are appended."""
    network, scan = tiny().eval(), torch.rand(1, 1, 16, 24, 32)
    difference = network(scan) - network(0.3 * scan)
    assert difference.abs().max() < 0.01


def test_batch_normalisation_judges_a_patch_as_the_whole_scan():
    network, scan = tiny(norm="batch").eval(), torch.rand(1, 1, 96, 20, 16)
    patch, whole = network(scan[:, :, 16:80]), network(scan)
    torch.testing.assert_close(patch[:, :, 28:36], whole[:, :, 44:52], atol=1e-5, rtol=1e-4)


def test_a_scripted_network_is_the_same():
    network, image = tiny().eval(), torch.rand(2, 1, *SIZE)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_a_gradient_reaches_every_parameter():
    network = VBNet(features=(4, 8, 16, 32, 64), bottleneck_from=16)
    network(torch.rand(2, 1, 32, 16, 48)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_channels_last_gives_nearly_the_same():
    network, image = tiny().eval(), torch.rand(1, 1, *SIZE)
    wanted = network(image).softmax(1)
    network.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(network(image).softmax(1), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": (4, 8, 12)}, "each twice the previous one"),
        ({"features": (4,), "convolutions": ()}, "at least two"),
        ({"convolutions": (1, 2, 3)}, "first: 2 numbers"),
        ({"convolutions": (1, 0)}, "1 or more"),
        ({"bottleneck_ratio": 3}, "Expected a divisor"),
        ({"norm": "layer"}, "norm is 'layer'. Expected one of: instance, batch"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        tiny(**wrong)
