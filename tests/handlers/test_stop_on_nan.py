import pytest
import torch
from custom_components.handlers.stop_on_nan import StopOnNaN
from monai.engines import SupervisedTrainer
from monai.handlers import StatsHandler


def trainer_with(losses, *handlers):
    network = torch.nn.Conv2d(1, 4, 1)
    values = iter(losses)
    batch = {"image": torch.rand(1, 1, 5, 6), "label": torch.zeros(1, 1, 5, 6)}
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=[batch, batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=lambda pred, label: (1 + pred.square().mean()) * next(values),
        train_handlers=[StopOnNaN(), *handlers],
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_change(value):
    trainer = trainer_with([1.0, 1.0, value], StatsHandler(iteration_log=False))
    kept = {}
    trainer.optimizer.register_step_post_hook(
        lambda *_: kept.update({name: weight.clone() for name, weight in trainer.network.state_dict().items()})
    )
    with pytest.raises(RuntimeError, match=f"Loss is {value} in epoch 2, iteration 3.*learning rate.*--amp False"):
        trainer.run()
    assert all(torch.equal(weight, kept[name]) for name, weight in trainer.network.state_dict().items())


def test_finite_losses_train_to_the_end():
    trainer = trainer_with([1.0, -1.0, 2.0, 0.0])
    trainer.run()
    assert trainer.state.iteration == 4
