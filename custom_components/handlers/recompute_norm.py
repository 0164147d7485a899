from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import nn
from torch.optim.swa_utils import update_bn


class RecomputeNorm:
    """Ignite handler that recomputes the statistics of batch normalisation at the end of an epoch.

    Running averages cover about ten batches (momentum 0.1). With small and varied batches, such as scans with small
    and large lesions, they differ much from the statistics of all scans: the network then ranks scans well, but
    assigns almost all of them to one class. Averages over many batches with fixed weights correct this (Y. Wu,
    J. Johnson: Rethinking "Batch" in BatchNorm, arXiv 2105.07576, Sec. 3). PyTorch's ``update_bn`` computes them.
    The training does not use these statistics, so the weights are not affected. The paper does not mention this step.

    Args:
        network: network whose statistics are replaced.
        loader: training batches, each with ``image``.
        batches: number of batches to use.
        interval: epochs, as for the validation, which must be attached after this handler.
        device: device of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[Mapping[str, Any]],
        batches: int,
        interval: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.loader, self.batches = network, loader, batches
        self.interval, self.device = interval, torch.device(device)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Recompute now."""
        images = (torch.as_tensor(batch[CommonKeys.IMAGE]) for batch in islice(self.loader, self.batches))
        with torch.no_grad():
            update_bn(images, self.network, self.device)
