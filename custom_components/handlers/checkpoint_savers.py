import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from custom_components.files.atomic import atomic_path, remove_left_behind
from custom_components.handlers.model_card_writer import ModelCardWriter
from custom_components.weights.checkpoints import epoch_checkpoints
from ignite.engine import Engine, Events
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointSaver
from torch import nn

_logger = logging.getLogger(__name__)


def engine_objects(engine: Any) -> dict[str, Any]:
    """State of a trainer to save: its epoch and, under fp16 autocast, its gradient scaler."""
    scaler = getattr(engine, "scaler", None)
    return {"trainer": engine} if scaler is None else {"trainer": engine, "scaler": scaler}


class AtomicSaver(BaseSaveHandler):
    """Ignite save handler that writes atomically: after a crash, a file is the complete old or the complete new one.

    MONAI's own handler writes in place, and removes a file with a fixed name before it writes the next one.

    Args:
        folder: folder of the files.
        filename: fixed file name; by default the name given by Ignite.
        written: called after each file.
    """

    def __init__(
        self, folder: str | Path, filename: str | None = None, written: Callable[[], None] | None = None
    ) -> None:
        self.folder, self.filename, self.written = Path(folder), filename, written

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        """Write, in the first process."""
        if idist.get_rank() == 0:
            with atomic_path(self.folder / (self.filename or filename)) as temporary:
                torch.save(checkpoint, temporary)
            if self.written is not None:
                self.written()

    def remove(self, filename: str) -> None:
        """Remove, in the first process; a file with a fixed name is kept, since the next one replaces it."""
        if idist.get_rank() == 0 and self.filename is None:
            (self.folder / filename).unlink(missing_ok=True)


class ResumableCheckpointSaver(CheckpointSaver):
    """MONAI's CheckpointSaver of every epoch, for trainings that can be resumed.

    Adds to MONAI: it also saves the state of its engine as ``trainer`` (a config cannot list the trainer in
    ``save_dict``, because the definition of the trainer contains this handler) and of the gradient scaler as
    ``scaler``. It writes with :class:`AtomicSaver`, and counts the checkpoints from before a resumption among the
    ``n_saved`` to keep. Without resumption, files of earlier runs are not changed.
    """

    def attach(self, engine: Engine) -> None:
        """Save ``save_dict`` and the engine."""
        self.save_dict.update(engine_objects(engine))
        if self._interval_checkpoint is not None:
            self._interval_checkpoint.save_handler = AtomicSaver(self.save_dir)  # type: ignore[assignment]
        engine.add_event_handler(Events.STARTED, self._count_earlier)
        super().attach(engine)

    def _count_earlier(self, engine: Engine) -> None:
        if self._interval_checkpoint is None:
            return
        remove_left_behind(Path(self.save_dir))  # by a training that was killed
        found = epoch_checkpoints(self.save_dir, self._interval_checkpoint.filename_prefix)
        if engine.state.epoch > 0:
            earlier = [(epoch, path.name) for epoch, path in sorted(found.items()) if epoch <= engine.state.epoch]
            self._interval_checkpoint.load_state_dict({"_saved": earlier[-(self._interval_checkpoint.n_saved or 0) :]})
        elif found:
            _logger.warning(
                "%s contains checkpoints of an earlier training, up to epoch %d. This training starts from scratch; "
                "move them before you resume it.",
                self.save_dir,
                max(found),
            )


class BestModelSaver(CheckpointSaver):
    """MONAI's CheckpointSaver of the best model, which keeps the best score over a resumption.

    Adds to MONAI: the best score can be saved and restored separately from the model's file, which is written with
    :class:`AtomicSaver`. Without it, the first epoch after a resumption would be the best one and overwrite a better
    model. In a distributed training only the first process writes.

    An epoch without a score (NaN: the validation cases have nothing to score) is never the best. Until an epoch has a
    score, the newest model is kept; MONAI's own saver would keep the first, since no score is greater than NaN.

    Args:
        save_dir: folder of the file.
        network: network whose plain state dict is saved.
        filename: name of the file.
        card: writes a model card next to the file.
    """

    def __init__(
        self, save_dir: str | Path, network: nn.Module, filename: str = "model.pt", card: ModelCardWriter | None = None
    ) -> None:
        super().__init__(str(save_dir), {"model": network}, save_key_metric=True, key_metric_filename=filename)
        self.path = Path(save_dir) / filename
        self.card = card
        self._state: Any = None
        if self._key_metric_checkpoint is not None:
            self._key_metric_checkpoint.save_handler = AtomicSaver(save_dir, filename, self._write_card)  # type: ignore[assignment]
            self._key_metric_checkpoint.score_function = self._comparable_score

    def attach(self, engine: Engine) -> None:
        """Save when the key metric of this evaluator has a new best value."""
        self._state = engine.state
        super().attach(engine)

    def metrics_completed(self, engine: Engine) -> None:
        """Compare and save."""
        if idist.get_rank() != 0:
            return
        if math.isnan(engine.state.metrics[engine.state.key_metric_name]):  # type: ignore[attr-defined]
            self._handle_no_score(engine)
        super().metrics_completed(engine)

    def _write_card(self) -> None:
        if self.card is not None and self._state is not None:
            name = self._state.key_metric_name
            score = float(self._state.metrics[name])
            value = None if math.isnan(score) else score
            self.card.write(self.path, {"name": name, "value": value, "epoch": self._state.epoch})

    def _comparable_score(self, engine: Any) -> float:
        """The score; minus infinity for NaN."""
        score = float(engine.state.metrics[engine.state.key_metric_name])
        return -math.inf if math.isnan(score) else score

    def _handle_no_score(self, engine: Any) -> None:
        state, saved = engine.state, self._key_metric_checkpoint._saved  # type: ignore[union-attr]
        if saved and saved[0].priority == -math.inf:
            saved.clear()  # so that the newest takes its place
        if math.isnan(state.best_metric):
            state.best_metric, state.best_metric_epoch = -1, -1
        kept = "keeps the best earlier epoch" if saved else "has this epoch until one has a score"
        _logger.warning(
            "%s of epoch %d is NaN: the validation cases have nothing to score (no lesion, or only one class). "
            "%s %s.", state.key_metric_name, state.epoch, self.path.name, kept,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The best score so far and its epoch."""
        saved = [] if self._key_metric_checkpoint is None else self._key_metric_checkpoint.state_dict()["_saved"]
        return {
            "saved": [(float(score), name) for score, name in saved],
            "epoch": -1 if self._state is None else self._state.best_metric_epoch,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore best score and epoch, unless the model's file is missing."""
        if state_dict["saved"] and self.path.is_file():
            super().load_state_dict({"_saved": state_dict["saved"]})
            if self._state is not None:
                self._state.best_metric, self._state.best_metric_epoch = state_dict["saved"][0][0], state_dict["epoch"]
