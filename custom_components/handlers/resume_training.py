import logging
from pathlib import Path
from typing import Any

from custom_components.handlers.checkpoint_savers import engine_objects
from custom_components.weights.checkpoints import first_line, latest_checkpoint
from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader

_logger = logging.getLogger(__name__)


class ResumeTraining:
    """Ignite handler that resumes from the newest checkpoint of a folder; without one, training starts from scratch.

    Reads checkpoints of :class:`ResumableCheckpointSaver`, including the trainer's epoch. If the newest cannot be read,
    the one before is used, with a warning. The length of an epoch follows from the current data, even if the batch
    size or the data have changed.

    Args:
        folder: folder of the checkpoints.
        load_dict: objects to restore by their names in the checkpoint, as for MONAI's ``CheckpointLoader``.
        map_location: device to load to.
        prefix: ``file_prefix`` of the saver.
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
            objects = {**self.load_dict, **engine_objects(engine)}
            CheckpointLoader(str(path), objects, map_location=self.map_location)(engine)
        except Exception as error:  # a state dict that does not fit raises many types of errors, such as KeyError
            reason = first_line(error)
            if reason.startswith("Epoch count"):  # MONAI's check of the number of epochs
                raise ValueError(
                    f"Checkpoint {path} has {engine.state.epoch} epochs already. Set --epochs to a higher number, or "
                    "start a new training in another --ckpt_dir."
                ) from None
            raise ValueError(
                f"Checkpoint {path} cannot be resumed from: {type(error).__name__} {reason}. Train with the same "
                "configs as before, delete the file if it is broken, or start a new training in another --ckpt_dir."
            ) from error
