"""One process of a training that ends, in one of several ways, once. Stands alone: a training finds it by its name."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events


class DyingRank:
    """Ends a process of a training in its second epoch, after a step that it shared with the other.

    Args:
        how: ``killed`` (SIGKILL), ``error`` (an exception) or ``nan`` (a loss that is none).
        mark: file that tells that it was done.
        network: whose weights become NaN.
        rank: of the process.
    """

    def __init__(self, how: str, mark: str, network: Any, rank: int = 1) -> None:
        self.how, self.mark, self.network, self.rank = how, Path(mark), network, rank

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        second = engine.state.iteration > engine.state.epoch_length + 1
        if int(os.environ["RANK"]) != self.rank or not second or self.mark.exists():
            return
        self.mark.touch()
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "error":
            raise ValueError("Case 012: label has value 7.")
        with torch.no_grad():
            for weight in self.network.parameters():
                weight.fill_(float("nan"))
