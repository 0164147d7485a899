"""FedProx' proximal term (Li et al., MLSys 2020, Eq. 2) for MONAI's trainer."""

import copy
from typing import Any

from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys
from nvflare.app_opt.pt.fedproxloss import PTFedProxLoss
from torch import nn


class ProximalTerm:
    """Ignite handler that adds mu / 2 ||w - w_t||^2 to the loss; w_t are the weights at the start of each run.

    The sum is NVFlare's ``PTFedProxLoss``.

    Args:
        mu: weight of the term, 0 or more.
    """

    def __init__(self, mu: float) -> None:
        self.loss = PTFedProxLoss(mu)
        self._received: nn.Module | None = None

    def attach(self, engine: Any) -> None:
        """Attach to a ``monai.engines.SupervisedTrainer``, which is run once per round."""
        engine.add_event_handler(Events.STARTED, self.remember)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self.add)

    def remember(self, engine: Any) -> None:
        """Copy the weights that were received for this round."""
        self._received = copy.deepcopy(engine.network).requires_grad_(False)

    def add(self, engine: Any) -> None:
        """Add the term to the loss of this iteration, before the backward pass."""
        engine.state.output[CommonKeys.LOSS] = engine.state.output[CommonKeys.LOSS] + self.loss(
            engine.network, self._received
        )
