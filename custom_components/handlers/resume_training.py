import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, CheckpointSaver
from torch import nn

_logger = logging.getLogger(__name__)


def epoch_checkpoints(folder: str | Path, prefix: str = "resume") -> dict[int, Path]:
    """Epoch checkpoints that ``CheckpointSaver(file_prefix=prefix, save_interval=...)`` left in a folder.

    Args:
        folder: where it saves.
        prefix: its ``file_prefix``.

    Returns:
        Files by epoch.
    """
    return {
        int(match[1]): path
        for path in Path(folder).glob(f"{prefix}_checkpoint_epoch=*.pt")
        if (match := re.search(r"epoch=(\d+)\.pt$", path.name))
    }


def latest_checkpoint(folder: str | Path, prefix: str = "resume") -> Path | None:
    """File of the highest epoch among the :func:`epoch_checkpoints`, or None."""
    epochs = epoch_checkpoints(folder, prefix)
    return epochs[max(epochs)] if epochs else None


class ResumableCheckpointSaver(CheckpointSaver):
    """MONAI's CheckpointSaver of every epoch, for a training that may have been resumed.

    Adds to MONAI: it also saves the state of the engine it is attached to, as ``trainer`` (a config cannot name the
    trainer in ``save_dict``, since the trainer's definition names this handler), and counts the checkpoints from before
    the resumption among the ``n_saved`` that are kept. Without resumption it leaves files of earlier runs alone.
    """

    def attach(self, engine: Engine) -> None:
        """Save what was asked for, and the engine."""
        self.save_dict["trainer"] = engine
        engine.add_event_handler(Events.STARTED, self._count_earlier)
        super().attach(engine)

    def _count_earlier(self, engine: Engine) -> None:
        if self._interval_checkpoint is None:
            return
        found = epoch_checkpoints(self.save_dir, self._interval_checkpoint.filename_prefix)
        if engine.state.epoch > 0:
            earlier = [(epoch, path.name) for epoch, path in sorted(found.items()) if epoch <= engine.state.epoch]
            self._interval_checkpoint.load_state_dict({"_saved": earlier[-(self._interval_checkpoint.n_saved or 0) :]})
        elif found:
            _logger.warning(
                "%s holds checkpoints of an earlier training, up to epoch %d. This one starts anew: to resume it, "
                "move those away.",
                self.save_dir,
                max(found),
            )


class BestModelSaver(CheckpointSaver):
    """MONAI's CheckpointSaver of the best model, which remembers the best score over a resumption.

    Adds to MONAI: its memory can be saved and restored without being part of the model's file. A saver that starts
    anew takes the first epoch after a resumption for the best and overwrites a better model. In a distributed
    training only the first process writes.

    Args:
        save_dir: folder of the file.
        network: its plain state dict is saved.
        filename: name of the file.
    """

    def __init__(self, save_dir: str | Path, network: nn.Module, filename: str = "model.pt") -> None:
        super().__init__(str(save_dir), {"model": network}, save_key_metric=True, key_metric_filename=filename)
        self.path = Path(save_dir) / filename
        self._state: Any = None

    def attach(self, engine: Engine) -> None:
        """Save whenever the key metric of this evaluator is better than ever."""
        self._state = engine.state
        super().attach(engine)

    def metrics_completed(self, engine: Engine) -> None:
        """Compare and save."""
        if idist.get_rank() == 0:
            super().metrics_completed(engine)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far and its epoch."""
        saved = [] if self._key_metric_checkpoint is None else self._key_metric_checkpoint.state_dict()["_saved"]
        return {
            "saved": [(float(score), name) for score, name in saved],
            "epoch": -1 if self._state is None else self._state.best_metric_epoch,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore them, unless the model's file is gone."""
        if state_dict["saved"] and self.path.is_file():
            super().load_state_dict({"_saved": state_dict["saved"]})
            if self._state is not None:
                self._state.best_metric, self._state.best_metric_epoch = state_dict["saved"][0][0], state_dict["epoch"]


class ResumeTraining:
    """Ignite handler that goes on from the newest checkpoint of a folder; without one, training starts from scratch.

    Reads what :class:`ResumableCheckpointSaver` wrote, the trainer's epoch included. An epoch is as long as the data
    are now, also when the batch size or the data have changed since.

    Args:
        folder: where ``ResumableCheckpointSaver`` left the checkpoints.
        load_dict: objects to restore by the names they were saved under, as for MONAI's ``CheckpointLoader``.
        map_location: device to load to.
        prefix: the saver's ``file_prefix``.
    """

    def __init__(
        self, folder: str | Path, load_dict: dict[str, Any], map_location: Any = None, prefix: str = "resume"
    ) -> None:
        self.folder, self.load_dict, self.map_location, self.prefix = Path(folder), load_dict, map_location, prefix

    def attach(self, engine: Engine) -> None:
        """Restore when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Restore now."""
        newest = latest_checkpoint(self.folder, self.prefix)
        if newest is None:
            _logger.info("No checkpoint to resume from in %s: training starts from scratch", self.folder)
            return
        epoch_length = engine.state.epoch_length or 0
        self._load(newest, engine)
        engine.state.epoch_length, engine.state.iteration = epoch_length, engine.state.epoch * epoch_length
        _logger.info("Resumed from %s", newest)

    def _load(self, path: Path, engine: Engine) -> None:
        try:
            CheckpointLoader(str(path), {**self.load_dict, "trainer": engine}, map_location=self.map_location)(engine)
        except Exception as error:  # the unpickler lets through whatever it stumbled on, such as KeyError
            reason = (str(error).splitlines() or [""])[0].rstrip(".:")
            if reason.startswith("Epoch count"):  # MONAI's own: more epochs are done than asked for
                raise ValueError(
                    f"Checkpoint {path} has {engine.state.epoch} epochs already. Ask for more with --epochs, or for a "
                    "new training in another --ckpt_dir."
                ) from None
            raise ValueError(
                f"Checkpoint {path} cannot be resumed from: {type(error).__name__} {reason}. Train with the same "
                "configs as before, delete the file if it is broken, or start anew in another --ckpt_dir."
            ) from error
