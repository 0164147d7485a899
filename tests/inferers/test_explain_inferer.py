import pytest
import torch
from custom_components.inferers.autocast_inferer import AutocastInferer
from custom_components.inferers.explain_inferer import ExplainInferer
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet

SMALL = {"layers": (1, 1, 1, 1), "block_inplanes": (3, 4, 5, 6)}


@pytest.fixture
def dual():
    torch.manual_seed(0)
    return DualSamplingNet(AttentionResNet(**SMALL), AttentionResNet(**SMALL)).eval()


def test_the_result_is_that_of_the_networks_explain(dual):
    x = torch.rand(2, 2, 17, 20, 33)
    found = ExplainInferer()(x, dual)
    torch.testing.assert_close(found, dual.explain(x))


def test_the_ratio_may_be_a_separate_argument(dual):
    x, ratio = torch.rand(2, 1, 17, 20, 33), torch.tensor([0.0, 0.2], dtype=torch.float64)
    torch.testing.assert_close(ExplainInferer()(x, dual, ratio=ratio), dual.explain(x, ratio))


def test_the_plain_network_gets_the_scan_and_is_in_evaluation_mode(dual):
    plain = AttentionResNet(**SMALL).train()
    x = torch.rand(2, 2, 17, 20, 33)
    found = ExplainInferer(plain)(x, dual)
    assert not plain.training
    torch.testing.assert_close(found["logit_plain"], plain(x[:, :1]))
    assert found["attention_plain"].shape == (2, 1, 17, 20, 33)
    assert {"logit", "logit_us", "attention_ss"} < set(found)


def test_under_autocast_every_output_is_float32(dual):
    found = AutocastInferer(ExplainInferer(), enabled=True)(torch.rand(1, 2, 17, 20, 33), dual)
    assert {value.dtype for value in found.values()} == {torch.float32}
