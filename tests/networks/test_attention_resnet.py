import pytest
import torch
from custom_components.networks.attention_resnet import AttentionResNet, WithSoftMask
from custom_components.networks.online_attention import min_max_normalize
from monai.networks.nets import resnet34
from monai.visualize import GradCAM

SMALL = {"layers": (1, 2, 1, 2), "block_inplanes": (3, 4, 5, 6)}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return AttentionResNet(**SMALL).eval()


def scan(*size, batch=2, seed=0):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def on_meta(**options):
    with torch.device("meta"):
        return AttentionResNet(**options)


def test_the_defaults_are_the_papers_network():
    network = on_meta()
    assert sum(parameter.numel() for parameter in network.parameters()) == 63_471_041
    features = network.features(torch.empty(1, 1, 138, 256, 256, device="meta"))
    assert tuple(features.shape) == (1, 512, 9, 16, 16)


def test_the_papers_network_takes_636_billion_operations_a_scan():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        on_meta()(torch.empty(1, 1, 138, 256, 256, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(636.4, abs=0.1)


def test_it_is_monais_resnet34_but_for_the_last_stride():
    torch.manual_seed(0)
    theirs = resnet34(spatial_dims=3, n_input_channels=1, conv1_t_stride=2, num_classes=1).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):  # as after a training: nothing is the identity
            torch.nn.init.normal_(module.running_mean, std=0.1), torch.nn.init.normal_(module.bias, std=0.1)
    ours = AttentionResNet(layer4_stride=2).eval()
    ours.load_state_dict(theirs.state_dict())
    x = scan(33, 40, 48, batch=1)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
        assert not torch.allclose(AttentionResNet().eval()(x), theirs(x))


@pytest.mark.parametrize(("size", "expected"), [((32, 48, 64), (2, 3, 4)), ((33, 50, 70), (3, 4, 5))])
def test_the_feature_map_is_a_sixteenth_of_the_input_in_each_axis(network, size, expected):
    assert tuple(network.features(scan(*size)).shape[2:]) == expected


def test_logit_and_map_of_one_pass_are_those_of_two(network):
    x = scan(33, 50, 47)
    logit, attention = network.explain(x).values()
    torch.testing.assert_close(logit, network(x))
    assert attention.shape == x.shape
    soft_logit, soft_mask = network.with_soft_mask(x)
    torch.testing.assert_close(soft_logit, logit)
    torch.testing.assert_close(soft_mask, torch.sigmoid(100 * (attention - 0.4)))


def test_the_attention_is_monais_grad_cam_of_the_plain_classifier(network):
    """Global average pooling before one linear layer: Grad-CAM is the class activation map but for a factor."""
    x = scan(32, 48, 64, batch=1)
    raw = {"upsampler": lambda size: lambda activation: activation, "postprocessing": lambda activation: activation}
    theirs = GradCAM(network, target_layers="layer4", **raw)(x=x, class_idx=0).detach()
    assert float(theirs.max()) > 0
    ours = network.online_attention.attention(network.features(x), network.fc.weight)
    torch.testing.assert_close(ours, min_max_normalize(theirs), rtol=1e-4, atol=1e-5)


def test_training_sees_logit_and_soft_mask_in_one_forward(network):
    x = scan(32, 48, 64)
    both = WithSoftMask(network)(x)
    torch.testing.assert_close(both["logit"], network(x))
    torch.testing.assert_close(both["attention"], network.with_soft_mask(x)[1])
    assert set(WithSoftMask(network, enabled=False)(x)) == {"logit"}


def test_the_attention_loss_trains_every_layer_but_the_classifier(network):
    network.train()
    WithSoftMask(network)(scan(32, 48, 64))["attention"].mean().backward()
    assert network.fc.weight.grad is None
    assert network.fc.bias.grad is None
    assert float(network.conv1.weight.grad.abs().sum()) > 0


def test_the_state_dict_has_no_trace_of_attention_and_wrapper(network):
    theirs = set(resnet34(spatial_dims=3, n_input_channels=1, num_classes=1).state_dict())
    with torch.device("meta"):
        assert set(AttentionResNet().state_dict()) == theirs


def test_scripted_and_eager_agree_on_sizes_not_seen_before(network):
    scripted = torch.jit.script(network)
    for size in ((32, 48, 64), (21, 37, 50)):
        x = scan(*size)
        torch.testing.assert_close(scripted(x), network(x))
        torch.testing.assert_close(scripted.explain(x), network.explain(x))
        torch.testing.assert_close(scripted.with_soft_mask(x)[1], network.with_soft_mask(x)[1])


def test_a_finer_feature_map_for_small_inputs():
    network = AttentionResNet(**SMALL, conv1_t_stride=1).eval()
    assert tuple(network.features(scan(32, 48, 64)).shape[2:]) == (4, 6, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 2}, "num_classes is 2. Expected 1"),
        ({"layers": (3, 4, 6)}, "Expected four stages"),
        ({"block_inplanes": (64, 128, 256, 0)}, "Expected four stages"),
        ({"layer4_stride": 0}, "layer4_stride is 0"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"alpha": -1.0}, "alpha > 0"),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        on_meta(**options)


def test_with_three_classes_the_attention_is_that_of_covid():
    torch.manual_seed(0)
    network = AttentionResNet(**SMALL, num_classes=3).eval()
    x = scan(32, 48, 64, batch=1)
    logit, attention = torch.jit.script(network).explain(x).values()
    assert logit.shape == (1, 3)
    torch.testing.assert_close(attention, network.explain(x)["attention"])
    raw = {"upsampler": lambda size: lambda activation: activation, "postprocessing": lambda activation: activation}
    theirs = GradCAM(network, target_layers="layer4", **raw)(x=x, class_idx=1).detach()
    assert float(theirs.max()) > 0
    ours = network.online_attention.attention(network.features(x), network.covid_weight())
    torch.testing.assert_close(ours, min_max_normalize(theirs), rtol=1e-4, atol=1e-5)
    assert network.definition["num_classes"] == 3
    assert "num_classes" not in AttentionResNet(**SMALL).definition  # as in the cards of earlier versions
