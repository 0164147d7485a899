from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from torch import nn
from torch.optim.swa_utils import update_bn


class RecomputeNorm:
    """Ignite handler that computes the statistics of batch normalisation anew at the end of an epoch.

    A training keeps running averages, which reach back some ten batches (momentum 0.1). Where batches are small and
    differ much, as scans with small and with large lesions do, they are far from those of all scans: the network then
    ranks scans well, but calls almost all of them one class. Averages over many batches with the weights as they are
    mend that (Y. Wu, J. Johnson: Rethinking "Batch" in BatchNorm, arXiv 2105.07576, Sec. 3). PyTorch's ``update_bn``
    computes them. Training itself does not use them, so its course stays the same.

    Departs from the paper, which says nothing of it.

    Args:
        network: whose statistics are replaced.
        loader: batches of the training, each with ``image``.
        batches: how many of them.
        interval: epochs; that of the validation, which has to be attached after this.
        device: of the network.
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
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Compute them now."""
        images = (torch.as_tensor(batch[CommonKeys.IMAGE]) for batch in islice(self.loader, self.batches))
        with torch.no_grad():
            update_bn(images, self.network, self.device)
