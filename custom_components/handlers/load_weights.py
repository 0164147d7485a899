import logging
from pathlib import Path

import torch
from custom_components.weights.checkpoints import unreadable
from custom_components.weights.model_card import card_path, network_arguments, read_card
from custom_components.weights.not_finite import not_finite, some_names
from ignite.engine import Engine, Events
from torch import nn

_logger = logging.getLogger(__name__)

# What DistributedDataParallel and torch.compile put before the names of all tensors.
WRAPPERS = ("module.", "_orig_mod.")
REMEDY = "Train one first (`run training`), or give --ckpt_path."


class LoadWeights:
    """Ignite handler that loads a network's weights before the first iteration, or says why they do not fit.

    MONAI's ``CheckpointLoader`` ends in the list of every tensor that differs; this one names the checkpoint, counts
    and remedy. Only tensors are unpickled (``weights_only=True``). Half-precision weights become float32.

    Args:
        path: file with the plain state dict of ``network``.
        network: network to fill; a ``DistributedDataParallel`` wrapper is looked through.
        own: part of the names of tensors that keep their first values, whether or not the file has them, such as
            ``attention`` (which the trained network had not) or ``output`` (whose classes were others).
        remedy: what to do when the file is missing.

    Raises:
        ValueError: at the start, when the file is missing or broken, belongs to another architecture, or holds NaN.
    """

    def __init__(self, path: str | Path, network: nn.Module, own: str = "", remedy: str = REMEDY) -> None:
        self.path = Path(path)
        self.own = own
        self.remedy = remedy
        self.network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Load now."""
        expected = self.network.state_dict()
        own = {name: value for name, value in expected.items() if self.own and self.own in name}
        state = {**read_state_dict(self.path, self.remedy), **own}
        problem = mismatch(state, expected)
        if problem:
            raise ValueError(
                f"Checkpoint {self.path} is of another architecture than the network: {problem}."
                f"{self._told()} Give the overlay it was trained with (for example configs/networks/unet.yaml), or "
                "another --ckpt_path."
            )
        self.network.load_state_dict(state)
        _logger.info("Weights loaded from %s", self.path)

    def _told(self) -> str:
        """What is known of the network that was trained."""
        card, name = read_card(self.path), card_path(self.path).name
        if not card:
            return f" There is no {name} beside it that names its network, so the config's was taken."
        known = network_arguments(card)
        return f" It was trained with {', '.join(f'{name} {value}' for name, value in known.items())}." if known else ""


def read_state_dict(path: Path, remedy: str = REMEDY) -> dict[str, torch.Tensor]:
    """Read a plain state dict, tensors only.

    Args:
        path: file written by ``torch.save(network.state_dict(), path)``.
        remedy: what to do when it is missing.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: when the file is missing, broken, or holds something else, NaN and infinity included.
    """
    if not path.is_file():
        raise ValueError(f"No checkpoint at {path}. {remedy}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler lets through whatever it stumbled on, such as KeyError
        raise ValueError(
            f"Checkpoint {path} cannot be read as tensors: {unreadable(error)}. Copy or train it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"Checkpoint {path} holds no plain state dict. Expected tensors by name as `model.pt` has them; "
            "checkpoints to resume from are taken up by `run training --resume true`."
        )
    for prefix in WRAPPERS * 2:  # either may be around the other
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    found = not_finite(state)
    if found:
        raise ValueError(
            f"Checkpoint {path} holds NaN or infinite numbers in {some_names(found)} of {len(state)} tensors: the "
            "training that wrote it had failed. Give another --ckpt_path, or train again."
        )
    return state


def mismatch(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str:
    """Describe how a state dict differs from the expected one.

    Args:
        state: tensors by name.
        expected: the network's own.

    Returns:
        "" when names and shapes agree.

    Example:
        >>> mismatch({"a": torch.zeros(2)}, {"a": torch.zeros(3), "b": torch.zeros(1)})
        'tensors missing: 1 (b), of another shape: 1 (a: [2] instead of [3])'
    """
    shapes = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    differing = {
        "tensors missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "of another shape": [f"{n}: {list(state[n].shape)} instead of {list(expected[n].shape)}" for n in shapes],
    }
    return ", ".join(f"{what}: {some_names(names)}" for what, names in differing.items() if names)
