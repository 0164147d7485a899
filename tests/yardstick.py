"""How long work takes, in a measure that holds on any machine: against other work, measured at the same time."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def yardstick() -> None:
    """Work of the kind that transforms of a scan do: voxels compared, sorted, resampled; 0.7 s of a core in 2026."""
    volume = np.random.default_rng(0).integers(-1000, 100, (256, 256, 150)).astype(np.float32)
    for _ in range(8):
        np.count_nonzero(volume * 2 > -500)
    np.sort(volume[..., :20], axis=None)
    torch.nn.functional.interpolate(torch.from_numpy(volume)[None, None], size=(128, 128, 300), mode="trilinear")


def yardsticks(work: Callable[[], Any], repeats: int = 3) -> float:
    """CPU seconds of some work over those of the yardstick, the least of several of each."""

    def cpu_seconds(call: Callable[[], Any]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    pairs = [(cpu_seconds(work), cpu_seconds(yardstick)) for _ in range(repeats)]
    return min(work for work, _ in pairs) / min(standard for _, standard in pairs)
