"""The device of one of several processes."""

import os

import torch


def process_device() -> torch.device:
    """The GPU with the number ``LOCAL_RANK``, which ``torchrun`` sets for each process; the CPU without GPUs."""
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
