import logging
import re
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.handlers import CheckpointLoader, CheckpointSaver

_logger = logging.getLogger(__name__)


def latest_checkpoint(folder: str | Path, prefix: str = "resume") -> Path | None:
    """Newest epoch checkpoint that ``CheckpointSaver(file_prefix=prefix, save_interval=...)`` left in a folder.

    Args:
        folder: where it saves.
        prefix: its ``file_prefix``.

    Returns:
        The file of the highest epoch, or None.
    """
    epochs = {
        int(match[1]): path
        for path in Path(folder).glob(f"{prefix}_checkpoint_epoch=*.pt")
        if (match := re.search(r"epoch=(\d+)\.pt$", path.name))
    }
    return epochs[max(epochs)] if epochs else None


class ResumableCheckpointSaver(CheckpointSaver):
    """MONAI's CheckpointSaver that also saves the state of the engine it is attached to, as ``trainer``.

    A config cannot name the trainer in ``save_dict``, since the trainer's definition names this handler.
    """

    def attach(self, engine: Engine) -> None:
        """Save what was asked for, and the engine."""
        self.save_dict["trainer"] = engine
        super().attach(engine)


class ResumeTraining:
    """Ignite handler that goes on from the newest checkpoint of a folder; without one, training starts from scratch.

    Reads what :class:`ResumableCheckpointSaver` wrote, the trainer's epoch included.

    Args:
        folder: where ``CheckpointSaver`` left the checkpoints.
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
        CheckpointLoader(str(newest), {**self.load_dict, "trainer": engine}, map_location=self.map_location)(engine)
        _logger.info("Resumed from %s", newest)
