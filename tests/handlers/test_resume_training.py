import os

import pytest
import torch
from custom_components.handlers.checkpoint_savers import AtomicSaver, BestModelSaver, ResumableCheckpointSaver
from custom_components.handlers.resume_training import ResumeTraining
from custom_components.weights.checkpoints import epoch_checkpoints, latest_checkpoint
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator


def saver_of(folder, objects):
    return ResumableCheckpointSaver(
        save_dir=str(folder), save_dict=dict(objects), file_prefix="resume", save_interval=1, n_saved=2
    )


def trainer_of(folder, network, epochs, resume=False, length=3, **more):
    """A training that adds 1 to the weight in each iteration."""

    def step(engine, batch):
        with torch.no_grad():
            network.weight += 1

    engine = Engine(step)
    objects = {"network": network, **more}
    if resume:
        ResumeTraining(folder, objects).attach(engine)
    saver_of(folder, objects).attach(engine)
    epochs_run = []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs_run.append(engine.state.epoch))
    engine.state.max_epochs = epochs
    engine.run([0] * length, max_epochs=epochs)
    return engine, epochs_run


def zero():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    return layer


def test_a_resumed_training_gives_the_same_result_as_an_uninterrupted_one(tmp_path):
    trainer_of(tmp_path, zero(), epochs=3)
    network = zero()
    engine, epochs_run = trainer_of(tmp_path, network, epochs=5, resume=True)
    assert epochs_run == [4, 5]
    assert (network.weight.item(), engine.state.iteration) == (15, 15)


def test_the_two_newest_checkpoints_are_kept_over_a_resumption(tmp_path):
    trainer_of(tmp_path, zero(), epochs=3)
    assert sorted(epoch_checkpoints(tmp_path)) == [2, 3]
    trainer_of(tmp_path, zero(), epochs=4, resume=True)
    assert sorted(epoch_checkpoints(tmp_path)) == [3, 4]


def test_a_new_training_keeps_the_checkpoints_of_an_earlier_one_with_a_warning(tmp_path, caplog):
    trainer_of(tmp_path, zero(), epochs=5)
    trainer_of(tmp_path, zero(), epochs=1)
    assert sorted(epoch_checkpoints(tmp_path)) == [1, 4, 5]
    assert "contains checkpoints of an earlier training, up to epoch 5" in caplog.text


def test_the_length_of_an_epoch_follows_from_the_current_data(tmp_path):
    trainer_of(tmp_path, zero(), epochs=2, length=3)
    network = zero()
    engine, _ = trainer_of(tmp_path, network, epochs=3, resume=True, length=5)
    assert (network.weight.item(), engine.state.epoch_length) == (6 + 5, 5)


def test_without_a_checkpoint_training_starts_from_scratch(tmp_path):
    assert latest_checkpoint(tmp_path / "nowhere") is None
    _, epochs_run = trainer_of(tmp_path, zero(), epochs=2, resume=True)
    assert epochs_run == [1, 2]


def test_the_newest_checkpoint_has_the_highest_number(tmp_path):
    for name in ("resume_checkpoint_epoch=9.pt", "resume_checkpoint_epoch=10.pt", "other_checkpoint_epoch=11.pt"):
        torch.save({}, tmp_path / name)
    assert latest_checkpoint(tmp_path).name == "resume_checkpoint_epoch=10.pt"


@pytest.mark.parametrize("left", [0, 100, 0.5, 0.99])
def test_a_truncated_newest_checkpoint_is_skipped(tmp_path, left, caplog):
    trainer_of(tmp_path, zero(), epochs=3)
    newest = tmp_path / "resume_checkpoint_epoch=3.pt"
    whole = newest.read_bytes()
    truncated = whole[: int(left * len(whole)) if left < 1 else left]
    newest.write_bytes(truncated)
    network = zero()
    _, epochs_run = trainer_of(tmp_path, network, epochs=4, resume=True)
    assert (epochs_run, network.weight.item()) == ([3, 4], 12)
    assert "epoch=3.pt cannot be read" in caplog.text
    assert newest.read_bytes() != truncated


def test_without_a_readable_checkpoint_nothing_is_trained(tmp_path):
    (tmp_path / "resume_checkpoint_epoch=1.pt").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"epoch=1.pt cannot be resumed from: .* Delete the file if it is broken"):
        trainer_of(tmp_path, zero(), epochs=4, resume=True)


class Pickle:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_code_is_an_error_and_the_code_does_not_run(tmp_path):
    torch.save({"network": Pickle(tmp_path / "made")}, tmp_path / "resume_checkpoint_epoch=1.pt")
    with pytest.raises(ValueError, match="cannot be resumed from"):
        trainer_of(tmp_path, zero(), epochs=4, resume=True)
    assert not (tmp_path / "made").exists()


def test_after_a_failed_write_the_old_checkpoint_is_kept(tmp_path, monkeypatch):
    trainer_of(tmp_path, zero(), epochs=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(state, path):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        trainer_of(tmp_path, zero(), epochs=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_with_a_fixed_name_is_not_removed_before_the_next_one_is_written(tmp_path):
    saver = AtomicSaver(tmp_path, "model.pt")
    saver({"weight": torch.ones(1)}, "ignored.pt")
    saver.remove("ignored.pt")
    assert (tmp_path / "model.pt").is_file()
    AtomicSaver(tmp_path).remove("model.pt")
    assert not list(tmp_path.iterdir())


def test_the_gradient_scale_is_restored(tmp_path):
    def engine_with(scale):
        engine = Engine(lambda engine, batch: None)
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return engine

    objects = {"network": zero()}
    first, second = engine_with(8.0), engine_with(2.0)
    saver_of(tmp_path, objects).attach(first)
    first.run([0], max_epochs=1)
    ResumeTraining(tmp_path, objects).attach(second)
    second.run([0], max_epochs=2)
    assert second.scaler.get_scale() == 8.0


def test_fewer_epochs_than_already_trained_are_an_error(tmp_path):
    trainer_of(tmp_path, zero(), epochs=3)
    with pytest.raises(ValueError, match=r"epoch=3.pt has 3 epochs already. Set --epochs to a higher number"):
        trainer_of(tmp_path, zero(), epochs=2, resume=True)


def test_another_network_is_an_error(tmp_path):
    trainer_of(tmp_path, zero(), epochs=1)
    with pytest.raises(
        ValueError, match=r"cannot be resumed from: RuntimeError .* Train with the same configs as before"
    ):
        trainer_of(tmp_path, torch.nn.Linear(2, 2), epochs=2, resume=True)


def evaluator_with(saver, scores):
    """An evaluator whose n-th epoch has the n-th score."""
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=[0], network=torch.nn.Identity(), iteration_update=lambda *_: {}
    )
    evaluator.state.key_metric_name = "dice"

    def score(engine):
        engine.state.metrics["dice"] = scores[engine.state.epoch - 1]

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, score)
    saver.attach(evaluator)
    return evaluator


def saved_weight(folder):
    return torch.load(folder / "model.pt", weights_only=True)["weight"].item()


@pytest.mark.parametrize("remembers", [True, False])
def test_a_worse_epoch_after_a_resumption_does_not_replace_the_best_model(tmp_path, remembers):
    network = zero()
    first = BestModelSaver(tmp_path, network)
    evaluator = evaluator_with(first, scores=[0.3, 0.7, 0.6])
    for epoch, expected in ((1, 1), (2, 2), (3, 2)):
        torch.nn.init.constant_(network.weight, epoch)
        evaluator.run(epoch)
        assert saved_weight(tmp_path) == expected
    again = BestModelSaver(tmp_path, network)
    evaluator = evaluator_with(again, scores=[0, 0, 0, 0.5, 0.8])
    if remembers:
        torch.save(first.state_dict(), tmp_path / "memory.pt")
        again.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    for epoch, expected in ((4, 2 if remembers else 4), (5, 5)):
        torch.nn.init.constant_(network.weight, epoch)
        evaluator.run(epoch)
        assert saved_weight(tmp_path) == expected


def test_a_missing_best_model_is_written_again(tmp_path):
    first = BestModelSaver(tmp_path, zero())
    evaluator_with(first, scores=[0.9]).run(1)
    (tmp_path / "model.pt").unlink()
    again = BestModelSaver(tmp_path, zero())
    evaluator = evaluator_with(again, scores=[0, 0.1])
    again.load_state_dict(first.state_dict())
    evaluator.run(2)
    assert (tmp_path / "model.pt").is_file()
