import logging
from pathlib import Path

import ignite.distributed as idist
import torch
from custom_components.files.atomic import atomic_path
from custom_components.handlers.model_card_writer import ModelCardWriter
from ignite.engine import Engine, Events
from torch import nn

_logger = logging.getLogger(__name__)


class SaveWeights:
    """Ignite handler that writes a network's plain state dict at the end of a run, as one file to deploy.

    Args:
        network: network whose weights are written.
        path: file to write atomically; an existing file is replaced.
        half: whether to write floating-point tensors in half precision, for half the file size.
        card: writes a model card next to the file.
    """

    def __init__(
        self, network: nn.Module, path: str | Path, half: bool = False, card: ModelCardWriter | None = None
    ) -> None:
        self.network, self.path, self.half, self.card = network, Path(path), half, card

    def attach(self, engine: Engine) -> None:
        """Write at the end of the run."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Write now, in the first process."""
        if idist.get_rank() != 0:
            return
        state = {name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}
        if self.half:
            state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)
        if self.card is not None:
            self.card.write(self.path)
        _logger.info("Weights written to %s", self.path)
