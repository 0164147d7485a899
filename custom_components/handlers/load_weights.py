import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from custom_components.infection_size import THREE_CLASSES
from custom_components.weights.checkpoints import unreadable
from custom_components.weights.model_card import (
    NETWORK,
    SETTINGS,
    SYSTEM,
    TrainedWith,
    all_synthetic,
    card_path,
    network_arguments,
    read_card,
)
from custom_components.weights.not_finite import not_finite, some_names
from ignite.engine import Engine, Events
from torch import nn

_logger = logging.getLogger(__name__)

# Prefixes of all tensor names from DistributedDataParallel and torch.compile.
WRAPPERS = ("module.", "_orig_mod.")
OPTION = "--ckpt_path"
REMEDY = "Train one first (`run training`), or give {option}."
# Parts of the ensemble: first words of its tensor names.
BRANCHES = ("uniform", "size_balanced")
# Entry of the configs that describes the network, by the option of its weights; otherwise ``network_def``.
ENTRIES = {f"--{branch}_ckpt_path": "branch_def" for branch in BRANCHES} | {
    f"--{name}_ckpt_path": f"{name}_def" for name in ("plain", "segment")
}


class LoadWeights:
    """Ignite handler that loads a network's weights before the first iteration, with a short error if they do not fit.

    MONAI's ``CheckpointLoader`` lists every tensor that differs; this one names the checkpoint, counts and remedy. Only
    tensors are unpickled (``weights_only=True``). Half-precision weights become float32. If all shapes agree, the
    network must still have the arguments of ``model.json``: with others it would compute something else.

    Args:
        path: file with the plain state dict of ``network``.
        network: network to load the weights into, also inside ``DistributedDataParallel``.
        own: part of the names of tensors that keep their initial values, even if the file has them, such as
            ``attention`` (if the trained network had none) or ``output`` (if it had other classes).
        remedy: what to do when the file is missing; ``{option}`` stands for ``option``.
        option: command-line option of the file, for messages.
        settings: preprocessing settings by name; differences from ``model.json`` are logged.

    Raises:
        ValueError: at the start, when the file is missing or broken, belongs to another network, or contains NaN.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        own: str = "",
        remedy: str = REMEDY,
        option: str = OPTION,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.own = own
        self.remedy, self.option = remedy, option
        self.network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
        self.settings = settings or {}

    def attach(self, engine: Engine) -> None:
        """Load when the engine starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Load now."""
        expected = self.network.state_dict()
        own = {name: value for name, value in expected.items() if self.own and self.own in name}
        state = {**read_state_dict(self.path, self.remedy, self.option), **own}
        card = read_card(self.path)
        self._check_branch(card)
        others = {} if self.own else self._other_arguments(card)
        if problem := mismatch(state, expected):
            reason = _three_classes(state, expected) or _part_or_whole(state, expected) or self._remedy(card, others)
            raise ValueError(f"Checkpoint {self.path} is of another architecture than the network: {problem}. {reason}")
        if others:
            raise ValueError(
                f"Checkpoint {self.path} is of a network that computes something else. {self._remedy(card, others)}"
            )
        self.network.load_state_dict(state)
        of_network = getattr(self.network, "definition", {})  # its arguments were compared above
        preprocessing = {name: value for name, value in self.settings.items() if name not in of_network}
        for sentence in TrainedWith(self.path).differences(preprocessing):
            _logger.warning("%s: %s", self.path.name, sentence)
        synthetic = ", trained on synthetic CT only" if all_synthetic(card) else ""
        _logger.info("Weights loaded from %s%s", self.path, synthetic)

    def _check_branch(self, card: Mapping[str, Any]) -> None:
        """Check that the ensemble's branches are not exchanged, nor one taken twice."""
        branch, trained = self.option.removeprefix("--").removesuffix("_ckpt_path"), card.get(SYSTEM)
        if branch in BRANCHES and trained in BRANCHES and branch != trained:
            raise ValueError(
                f"Checkpoint {self.path} is of the branch {trained}, as its model.json says. Give it as "
                f"--{trained}_ckpt_path, and the weights of a training of the branch {branch} as {self.option}."
            )

    def _other_arguments(self, card: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Arguments of this network and of the training by option, where they differ."""
        built = getattr(self.network, "definition", {})
        is_ensemble = all(hasattr(self.network, branch) for branch in BRANCHES)
        entry = ENTRIES.get(self.option, "branch_def" if is_ensemble else "network_def")
        known = {name: (f"--{entry}#{name}", value) for name, value in network_arguments(card).items()}
        known |= {name: (f"--{name}", value) for name, value in card.get(SETTINGS, {}).items()}
        return {
            option: (built[name], value)
            for name, (option, value) in known.items()
            if name in built and built[name] != value
        }

    def _remedy(self, card: Mapping[str, Any], others: Mapping[str, tuple[Any, Any]]) -> str:
        trained = str(card.get(NETWORK, {}).get("_target_", "")).rpartition(".")[2]
        if trained and trained != (built := type(self.network).__name__):
            return f"Its network is {trained}, this one {built}: give another {self.option}."
        if others:
            given = ", ".join(f"{option} is {value} (trained with {then})" for option, (value, then) in others.items())
            return f"{given}. Leave {'it' if len(others) == 1 else 'them'} out, or give the value of the training."
        known = ", ".join(f"{name} {value}" for name, value in network_arguments(card).items())
        facts = f"It was trained with {known}. " if known else ""
        if not card and not card_path(self.path).exists():
            facts = f"There is no {card_path(self.path).name} next to it that describes its network. "
        return f"{facts}Build the network as in its training (overlay and options), or give another {self.option}."


def _three_classes(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Remedy when weights of three classes were given for a network of two; "" for other weights."""
    outputs = [{len(own[name]) for name in own if name.endswith("fc.bias")} for own in (state, expected)]
    if outputs != [{len(THREE_CLASSES)}, {1}]:
        return ""
    return (
        "It has the classes COVID-19, CAP and normal, for research evaluation only: use `run evaluating` with "
        "configs/evaluate.yaml and configs/recipes/three_classes.yaml. Here, give weights of two classes."
    )


def _part_or_whole(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Remedy when a single branch was given for the ensemble, or the reverse; "" for other weights."""
    if {f"{branch}.{name}" for branch in BRANCHES for name in state} == set(expected):
        return (
            "It is a single branch. Expected both branches in one file: models/model.pt, which `run evaluating` with "
            "configs/evaluate.yaml and configs/ensemble.yaml writes."
        )
    if {f"{branch}.{name}" for branch in BRANCHES for name in expected} == set(state):
        return "It is the ensemble. Expected a branch: models/uniform/model.pt or models/size_balanced/model.pt."
    return ""


def read_state_dict(path: Path, remedy: str = REMEDY, option: str = OPTION) -> dict[str, torch.Tensor]:
    """Read a plain state dict, tensors only.

    Args:
        path: file written by ``torch.save(network.state_dict(), path)``.
        remedy: what to do when it is missing; ``{option}`` stands for ``option``.
        option: command-line option of the file, for messages.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: when the file is missing, broken, not a state dict, or contains NaN or infinity.
    """
    if not path.is_file():
        raise ValueError(f"No checkpoint at {path}. {remedy.replace('{option}', option)}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises many types of errors, such as KeyError
        raise ValueError(
            f"Checkpoint {path} cannot be read as tensors: {unreadable(error)}. Copy or train it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"Checkpoint {path} is not a plain state dict. Expected tensors by name, as in `model.pt`. To resume from "
            "a checkpoint, use `run training --resume true`."
        )
    for prefix in WRAPPERS * 2:  # in either order
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    found = not_finite(state)
    if found:
        raise ValueError(
            f"Checkpoint {path} has NaN or infinite numbers in {some_names(found)} of {len(state)} tensors: its "
            f"training failed. Give another {option}, or train again."
        )
    return state


def mismatch(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str:
    """Describe how a state dict differs from the expected one; "" if names and shapes agree.

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
