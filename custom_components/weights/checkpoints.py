"""Epoch checkpoints in a folder."""

import logging
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist
import torch
from custom_components.files.atomic import writable_folder
from custom_components.weights.model_card import read_card
from custom_components.weights.not_finite import not_finite, some_names

_logger = logging.getLogger(__name__)

# Other files that a training writes to its folder.
RESULTS = ("model.pt", "model.json", "last.pt", "last.json", "split.json")


def training_folder(path: str | Path, resume: bool = False, replace_weights: bool = False) -> Path:
    """Create or prepare the folder of a training without losing results of an earlier one.

    A new training in the folder of an earlier one moves the earlier results and checkpoints to ``earlier_1``,
    ``earlier_2`` and so on. ``model.pt`` also stays in place until the new training replaces it.

    Args:
        path: folder of the checkpoints.
        resume: whether the training resumes from them.
        replace_weights: whether it may be the folder ``models`` of a bundle that has weights, which inference uses.

    Returns:
        The folder.

    Raises:
        ValueError: when the folder cannot be written into, or has the weights of a bundle.
    """
    if not replace_weights and _has_weights_of_a_bundle(Path(path)):
        raise ValueError(
            f"{path} has the weights that the bundle uses for inference (model.pt). Train into another folder, such as "
            f"--ckpt_dir {Path(path) / 'trained'}; to replace them, add --replace_weights true."
        )
    folder = writable_folder(path)
    results = [folder / name for name in RESULTS if (folder / name).is_file()]
    checkpoints = list(epoch_checkpoints(folder).values())
    if resume or idist.get_rank() != 0 or not (results or checkpoints):
        return folder
    kept = next(place for number in range(1, 10**6) if not (place := folder / f"earlier_{number}").exists())
    kept.mkdir()
    for file in results:
        try:
            os.link(file, kept / file.name)
        except OSError:  # a file system without links
            shutil.copy2(file, kept / file.name)
    for file in checkpoints:
        file.rename(kept / file.name)
    _logger.info("%s contains an earlier training: its model and checkpoints are kept in %s.", folder, kept)
    return folder


def _has_weights_of_a_bundle(folder: Path) -> bool:
    full = folder.resolve()
    known = full.name == "models" and (full.parent / "configs" / "inference.json").is_file()
    return known and (full / "model.pt").is_file()


def training_ended(path: str | Path, tensorboard_dir: str | Path | None = None) -> None:
    """Log the files that a training has written, with the score of the best epoch.

    Args:
        path: folder of the checkpoints.
        tensorboard_dir: folder of the losses and scores.
    """
    if idist.get_rank() != 0:
        return
    folder = Path(path).absolute()
    score = read_card(folder / "model.pt").get("score") or {}
    best = f"Best {score['name']}: {score['value']:.4f}, epoch {score['epoch']}. " if score.get("value") else ""
    found = [name for name in (*RESULTS, "resume_checkpoint_epoch=*.pt") if any(folder.glob(name))]
    curves = f". TensorBoard: {Path(tensorboard_dir).absolute()}" if tensorboard_dir else ""
    _logger.info("Training ended. %sFiles in %s: %s%s", best, folder, ", ".join(found), curves)


def epoch_checkpoints(folder: str | Path, prefix: str = "resume") -> dict[int, Path]:
    """Epoch checkpoints that ``CheckpointSaver(file_prefix=prefix, save_interval=...)`` saved in a folder.

    Args:
        folder: folder of the checkpoints.
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
    """The readable checkpoint of the highest epoch, or None if there are no checkpoints.

    Args:
        folder: folder of the checkpoints.
        prefix: prefix of their names.

    Raises:
        ValueError: when there are checkpoints but none can be read.
    """
    epochs = epoch_checkpoints(folder, prefix)
    broken = ""
    for epoch in sorted(epochs, reverse=True):
        reason = _unreadable(epochs[epoch])
        if reason is None:
            return epochs[epoch]
        broken = broken or f"Checkpoint {epochs[epoch]} cannot be resumed from: {reason}."
        _logger.warning("Checkpoint %s cannot be read (%s): using the previous one.", epochs[epoch], reason)
    if broken:
        raise ValueError(f"{broken} Delete the file if it is broken, or use a new --ckpt_dir.")
    return None


def _unreadable(path: Path) -> str | None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types of errors, such as KeyError
        return unreadable(error)
    network = state.get("network") if isinstance(state, Mapping) else None
    found = not_finite(network) if isinstance(network, Mapping) else []
    return f"NaN or infinite numbers in the weights {some_names(found)}" if found else None


def unreadable(error: Exception) -> str:
    """Why a file could not be loaded as tensors. PyTorch's own message would suggest loading untrusted objects."""
    if isinstance(error, pickle.UnpicklingError) and "unsupported" in str(error).lower():
        return "it contains objects other than tensors; these could run code and are not loaded"
    return f"{type(error).__name__} {first_line(error)}"


def first_line(error: Exception) -> str:
    """First line of an error message without the full stop."""
    return (str(error).splitlines() or [""])[0].rstrip(".:")
