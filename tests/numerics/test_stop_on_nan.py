import math

import pytest
import torch
from custom_components import BestModelSaver, ResumableCheckpointSaver, ResumeTraining, StopOnNaN
from custom_components.handlers.stop_on_nan import SMALLEST_SCALE
from custom_components.weights.checkpoints import latest_checkpoint
from custom_components.weights.not_finite import not_finite
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer

CASES = ["covid_007", "cap_012"]


class Layers(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Conv2d(1, 3, 1), torch.nn.BatchNorm2d(3))


def trainer_with(network=None, rate=0.1, image=None, epochs=2, handlers=(), loss=None):
    """A training of two iterations an epoch, three cases of two names in each batch."""
    network = Layers() if network is None else network
    image = torch.rand(3, 1, 5, 6) if image is None else image
    batch = {"image": image, "label": torch.zeros(3, 1, 5, 6), "case_id": [*CASES, CASES[0]]}
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[batch, batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=rate),
        loss_function=(lambda prediction, label: (prediction - 1).square().mean()) if loss is None else loss,
        train_handlers=[StopOnNaN(), *handlers],
    )


def saver(folder, network):
    return ResumableCheckpointSaver(
        save_dir=str(folder), save_dict={"network": network}, file_prefix="resume", save_interval=1, n_saved=2
    )


def poison_gradient(trainer, iteration, value):
    """From that iteration on, the gradient of the first weight is not a number, whatever the loss."""
    poisoned = lambda gradient: gradient * value if trainer.state.iteration >= iteration else gradient  # noqa: E731
    trainer.network[0].weight.register_hook(poisoned)


def weights_of_last_step(trainer):
    kept = {}
    trainer.optimizer.register_step_post_hook(
        lambda *_: kept.update({name: tensor.clone() for name, tensor in trainer.network.named_parameters()})
    )
    return kept


def trainer_with_losses(*values, **more):
    losses = iter(values)
    return trainer_with(loss=lambda prediction, label: (1 + prediction.square().mean()) * next(losses), **more)


def test_finite_losses_train_to_the_end():
    trainer = trainer_with_losses(1.0, -1.0, 2.0, 0.0)
    trainer.run()
    assert trainer.state.iteration == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_step_with_epoch_rate_and_cases(value):
    trainer = trainer_with_losses(1.0, 1.0, value, rate=0.02)
    kept = weights_of_last_step(trainer)
    expected = (
        rf"^Loss is {value} in epoch 2, iteration 3 \(learning rate 0.02; cases: covid_007, cap_012\). Expected finite "
        r"numbers. Earlier checkpoints are kept. .* lower --learning_rate, .* --amp False --resume true\.$"
    )
    with pytest.raises(RuntimeError, match=expected):
        trainer.run()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in trainer.network.named_parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e25])
def test_a_gradient_that_is_not_finite_ends_the_run_before_the_step_though_the_loss_is_finite(value):
    """1e25 is finite, but its square, which Adam keeps, is not: the weight would never move again."""
    trainer = trainer_with()
    poison_gradient(trainer, iteration=3, value=value)
    kept = weights_of_last_step(trainer)
    with pytest.raises(
        RuntimeError, match=r"Loss is [\d.]+, but the gradient is not finite in 1 \(0.weight\) in epoch 2, iteration 3"
    ):
        trainer.run()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in trainer.network.named_parameters())


def test_weights_that_a_step_made_infinite_end_the_run_before_they_are_saved(tmp_path):
    network = Layers()
    trainer = trainer_with(network, handlers=[saver(tmp_path, network)])

    def explode(engine):
        engine.optimizer.param_groups[0]["lr"] = 1e38

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), explode)
    with pytest.raises(RuntimeError, match=r"^Weights or running statistics are not finite in \d+ \(.* iteration 3 "):
        trainer.run()
    assert [path.name for path in tmp_path.iterdir()] == ["resume_checkpoint_epoch=1.pt"]
    assert not not_finite(torch.load(latest_checkpoint(tmp_path), weights_only=True)["network"])


def test_running_statistics_that_overflow_end_the_run_though_loss_and_gradient_are_finite():
    """Batch normalisation divides by them in evaluation; in training it never looks at them."""
    image = 2e19 * torch.rand(3, 1, 5, 6)
    with pytest.raises(
        RuntimeError, match=r"not finite in 1 \(1.running_var\) in epoch 1, iteration 1 .*: covid_007, cap"
    ):
        trainer_with(image=image).run()


def with_scaler(trainer, scale):
    """Under half precision, as on CUDA; MONAI makes its own scaler when the run starts."""
    trainer.amp = True
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", scaler))
    return trainer


@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:torch.cuda.amp.GradScaler")
def test_steps_that_a_scaler_skips_for_ever_end_the_run_with_the_weights_of_before():
    trainer = with_scaler(trainer_with(epochs=100), scale=65536.0)
    poison_gradient(trainer, iteration=1, value=math.nan)
    before = {name: weight.clone() for name, weight in trainer.network.named_parameters()}
    with pytest.raises(RuntimeError, match=r"if scaled by 0.0005, and steps are skipped, in epoch 14, iteration 27"):
        trainer.run()
    assert trainer.scaler.get_scale() == SMALLEST_SCALE / 2
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.network.named_parameters())


@pytest.mark.filterwarnings("ignore:CUDA is not available", "ignore:torch.cuda.amp.GradScaler")
def test_a_few_skipped_steps_are_the_scalers_business():
    trainer = with_scaler(trainer_with(epochs=6), scale=2.0**100)
    trainer.network[0].weight.register_hook(lambda gradient: gradient * 2.0**30)  # beyond float32 at first
    before = trainer.network[0].weight.clone()
    trainer.run()
    assert trainer.scaler.get_scale() < 2.0**100
    assert not torch.equal(trainer.network[0].weight, before)


def test_a_training_without_names_of_cases_is_ended_too():
    trainer = trainer_with(image=torch.full((3, 1, 5, 6), math.nan))
    for batch in trainer.data_loader:
        batch.pop("case_id", None)
    with pytest.raises(RuntimeError, match=r"Loss is nan in epoch 1, iteration 1 .*cases: unknown"):
        trainer.run()


def test_a_checkpoint_whose_weights_are_nan_is_passed_over_for_the_one_before(tmp_path, caplog):
    good, bad = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    torch.nn.init.constant_(bad.bias, math.nan)
    for epoch, network in ((1, good), (2, bad)):
        torch.save({"network": network.state_dict()}, tmp_path / f"resume_checkpoint_epoch={epoch}.pt")
    assert latest_checkpoint(tmp_path).name == "resume_checkpoint_epoch=1.pt"
    assert "NaN or infinite numbers in the weights 1 (bias)" in caplog.text
    (tmp_path / "resume_checkpoint_epoch=1.pt").unlink()
    trainer = trainer_with(bad, handlers=[ResumeTraining(tmp_path, {"network": bad})])
    with pytest.raises(ValueError, match=r"epoch=2.pt cannot be resumed from: NaN or infinite numbers"):
        trainer.run()


def saved_after(folder, scores):
    """Weight of model.pt after each epoch; its weight is the epoch's number."""
    network = torch.nn.Linear(1, 1)
    best = BestModelSaver(folder, network)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=[0], network=torch.nn.Identity(), iteration_update=lambda *_: {}
    )
    evaluator.state.key_metric_name = "val_auc"
    evaluator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(val_auc=scores[engine.state.epoch - 1])
    )
    best.attach(evaluator)
    for epoch in range(1, len(scores) + 1):
        torch.nn.init.constant_(network.weight, epoch)
        evaluator.run(epoch)
        yield int(torch.load(folder / "model.pt", weights_only=True)["weight"].item())


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([math.nan, 0.1, 0.3, 0.2], [1, 2, 3, 3]),
        ([0.4, math.nan, 0.5], [1, 1, 3]),
        ([math.nan, math.nan, 0.0, math.nan], [1, 2, 3, 3]),
        ([math.nan, math.nan, math.nan], [1, 2, 3]),
    ],
)
def test_an_epoch_without_a_score_is_the_best_only_while_there_is_no_other(tmp_path, caplog, scores, kept):
    assert list(saved_after(tmp_path, scores)) == kept
    assert caplog.text.count("val_auc of epoch") == sum(map(math.isnan, scores))
