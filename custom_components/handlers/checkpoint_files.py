"""Epoch checkpoints in a folder."""

import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from custom_components.handlers.not_finite import not_finite, some_names

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
    """File of the highest epoch among the :func:`epoch_checkpoints` that can be read, or None.

    Args:
        folder: where they are.
        prefix: of their names.

    Raises:
        ValueError: when there are some and none can be read.
    """
    epochs = epoch_checkpoints(folder, prefix)
    broken = ""
    for epoch in sorted(epochs, reverse=True):
        reason = _unreadable(epochs[epoch])
        if reason is None:
            return epochs[epoch]
        broken = broken or f"Checkpoint {epochs[epoch]} cannot be resumed from: {reason}."
        _logger.warning("Checkpoint %s cannot be read (%s): the one before it is taken.", epochs[epoch], reason)
    if broken:
        raise ValueError(f"{broken} Delete the file if it is broken, or start anew in another --ckpt_dir.")
    return None


def _unreadable(path: Path) -> str | None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler lets through whatever it stumbled on, such as KeyError
        return unreadable(error)
    network = state.get("network") if isinstance(state, Mapping) else None
    found = not_finite(network) if isinstance(network, Mapping) else []
    return f"NaN or infinite numbers in the weights {some_names(found)}" if found else None


def unreadable(error: Exception) -> str:
    """Why a file could not be loaded as tensors; PyTorch's own message tells how to load objects all the same."""
    if isinstance(error, pickle.UnpicklingError) and "unsupported" in str(error).lower():
        return "it holds more than tensors, and objects, which could run code, are not loaded"
    return f"{type(error).__name__} {first_line(error)}"


def first_line(error: Exception) -> str:
    """First line of what an error says, without its full stop."""
    return (str(error).splitlines() or [""])[0].rstrip(".:")
