"""The device of one of several processes."""

import os

import torch


def process_device() -> torch.device:
    """The GPU that belongs to this process of ``torchrun``; the CPU where there are no GPUs.

    Returns:
        GPU ``LOCAL_RANK``, the number that ``torchrun`` gives each process of a machine.
    """
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
