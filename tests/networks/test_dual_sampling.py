import math

import pytest
import torch
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet, branch_weight, ensemble_logit
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import dual_sampling as reference

probabilities = st.floats(1e-6, 1 - 1e-6)
logits = st.floats(-30, 30)


@pytest.fixture
def network():
    torch.manual_seed(1)
    small = {"layers": (1, 1, 1, 1), "block_inplanes": (3, 4, 5, 6)}
    return DualSamplingNet(AttentionResNet(**small), AttentionResNet(**small)).eval()


def scans(ratios, size=(20, 33, 47)):
    x = torch.rand(len(ratios), 2, *size, generator=torch.Generator().manual_seed(0))
    x[:, 1] = torch.tensor(ratios).view(-1, 1, 1, 1)
    return x


@given(probabilities, probabilities, st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.001, 0.03, 1.0])))
def test_the_ensemble_is_eq_5(p_us, p_ss, ratio):
    a, b, r = (torch.tensor(value, dtype=torch.float64) for value in (p_us, p_ss, ratio))
    final = ensemble_logit(torch.logit(a), torch.logit(b), branch_weight(r)).sigmoid().item()
    assert final == pytest.approx(reference.final_probability(p_us, p_ss, ratio), rel=1e-9)


@given(logits, logits)
def test_all_the_weight_on_a_branch_gives_that_branch(a, b):
    x, y, one = (torch.tensor(value, dtype=torch.float64) for value in (a, b, 1.0))
    assert ensemble_logit(x, y, one).item() == pytest.approx(a, abs=1e-9)
    assert ensemble_logit(x, y, 1 - one).item() == pytest.approx(b, abs=1e-9)


def test_saturated_branches_keep_their_difference():
    final = ensemble_logit(torch.tensor(50.0), torch.tensor(60.0), torch.tensor(0.35))
    assert 50 < final.item() < 60


def test_each_scan_of_a_batch_is_weighted_by_its_own_ratio(network):
    ratios = [0.0005, 0.01, 0.2]
    x = scans(ratios)
    p_us, p_ss = network.uniform(x[:, :1]).sigmoid(), network.size_balanced(x[:, :1]).sigmoid()
    expected = [reference.final_probability(a.item(), b.item(), r) for a, b, r in zip(p_us, p_ss, ratios, strict=True)]
    assert network(x).sigmoid().flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_the_ratio_as_a_channel_and_as_an_argument_are_the_same(network):
    x = scans([0.0005, 0.01])
    torch.testing.assert_close(network(x), network(x[:, :1], torch.tensor([0.0005, 0.01])))


def test_a_scan_of_unknown_ratio_has_no_verdict_but_both_branches(network):
    found = network.explain(scans([math.nan, 0.01]))
    assert found["logit"].isnan().flatten().tolist() == [True, False]
    assert bool(found["logit_us"].isfinite().all())
    assert network.decide(scans([math.nan])).item() is False


def test_the_explanation_holds_both_branches_and_the_verdict(network):
    x = scans([0.0005, 0.01])
    found = network.explain(x)
    assert set(found) == {"logit", "logit_us", "logit_ss", "attention_us", "attention_ss"}
    torch.testing.assert_close(found["logit"], network(x))
    torch.testing.assert_close(found["attention_ss"], network.size_balanced.explain(x[:, :1])["attention"])
    assert found["attention_us"].shape == (2, 1, 20, 33, 47)


def test_weights_and_thresholds_are_parameters(network):
    own = DualSamplingNet(
        network.uniform, network.size_balanced, weights=(1.0, 0.0), ratio_thresholds=(0.1, 0.2), decision_threshold=1.0
    ).eval()
    x = scans([0.05, 0.15, 0.25])
    us, ss = network.uniform(x[:, :1]), network.size_balanced(x[:, :1])
    torch.testing.assert_close(own(x), torch.stack([us[0], ss[1], us[2]]), rtol=1e-4, atol=1e-5)
    assert not bool(own.decide(x).any())


def test_a_probability_at_the_threshold_is_called_covid(network):
    for branch in (network.uniform, network.size_balanced):
        torch.nn.init.zeros_(branch.fc.weight), torch.nn.init.zeros_(branch.fc.bias)
    assert network.decide(scans([0.01])).item() is True  # both probabilities are 0.5


def test_scripted_and_eager_agree(network):
    scripted = torch.jit.script(network)
    for x in (scans([0.0005, 0.01]), scans([0.2], size=(17, 18, 35))):
        torch.testing.assert_close(scripted(x), network(x))
        torch.testing.assert_close(scripted.explain(x), network.explain(x))
        assert torch.equal(scripted.decide(x), network.decide(x))


def test_a_scan_without_ratio_is_refused(network):
    with pytest.raises(ValueError, match="Expected two channels"):
        network(scans([0.01])[:, :1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (0.35, 1.96)}, r"weights is \[0.35, 1.96\]. Expected numbers in"),
        ({"ratio_thresholds": (0.03, 0.001)}, "Expected the lower threshold first"),
        ({"decision_threshold": -0.5}, "decision_threshold is"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(options, message, network):
    with pytest.raises(ValueError, match=message):
        DualSamplingNet(network.uniform, network.size_balanced, **options)


def test_the_defaults_are_two_of_the_papers_networks():
    with torch.device("meta"):
        network = DualSamplingNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * 63_471_041


def test_a_branch_of_three_classes_is_refused():
    three = AttentionResNet((1, 1, 1, 1), (2, 3, 4, 5), num_classes=3)
    with pytest.raises(ValueError, match=r"got three classes: Eq\. \(5\) is for two"):
        DualSamplingNet(three, AttentionResNet((1, 1, 1, 1), (2, 3, 4, 5)))
