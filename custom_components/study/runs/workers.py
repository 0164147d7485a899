"""Where the runs of a study are executed: one at a time on each GPU, or some at a time on the CPU."""

import os

import torch


def worker_environments(workers: int | None = None) -> list[dict[str, str]]:
    """Environment of each of the runs that are executed at once.

    Args:
        workers: how many; None is one for each GPU that there is, or one without GPUs. More than GPUs share them.

    Returns:
        For each ``CUDA_VISIBLE_DEVICES`` with one GPU, where there are any; several on a CPU share its threads, unless
        ``OMP_NUM_THREADS`` is set.

    Raises:
        ValueError: when ``workers`` is no number of 1 or more.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}. Expected a whole number, 1 or more.")
    gpus = visible_gpus()
    count = workers or max(len(gpus), 1)
    if gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(count)]
    if count == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{} for _ in range(count)]
    return [{"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // count, 1))} for _ in range(count)]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
