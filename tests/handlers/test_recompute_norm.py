import pytest
import torch
from custom_components.handlers.recompute_norm import RecomputeNorm
from ignite.engine import Engine, Events
from torch import nn


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2 * 24, 1))
    network[1].running_mean.fill_(100)
    return network


@pytest.fixture
def loader():
    torch.manual_seed(1)
    return [{"image": (k + 1) * torch.randn(3, 1, 2, 3, 4) + k} for k in range(4)]


def test_the_statistics_are_averages_over_the_batches(network, loader):
    RecomputeNorm(network, loader, batches=3)()
    features = [network[0](batch["image"]).transpose(0, 1).flatten(1) for batch in loader[:3]]
    means = torch.stack([one.mean(1) for one in features]).mean(0)
    variances = torch.stack([one.var(1) for one in features]).mean(0)
    torch.testing.assert_close(network[1].running_mean, means)
    torch.testing.assert_close(network[1].running_var, variances)


@pytest.mark.parametrize("training", [True, False])
def test_everything_else_in_the_network_is_unchanged(network, loader, training):
    network.train(training)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    RecomputeNorm(network, loader, batches=9)()  # more than there are
    assert (network.training, network[1].momentum) == (training, 0.1)
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    assert all(weight.grad is None for weight in network.parameters())


def test_it_runs_at_each_interval_before_later_handlers(network, loader):
    engine, seen = Engine(lambda *_: None), []
    RecomputeNorm(network, loader, batches=2, interval=2).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(float(network[1].running_mean[0])))
    engine.run([0], max_epochs=3)
    assert seen[0] == 100
    assert seen[1] == seen[2] != 100
