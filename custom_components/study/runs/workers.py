"""Workers of a study: one run at a time per GPU, or several in parallel on the CPU."""

import os

import torch


def worker_environments(workers: int | None = None) -> list[dict[str, str]]:
    """Environment variables of each parallel run.

    Args:
        workers: number of parallel runs; None is one per GPU, or one without GPUs. More workers than GPUs share GPUs.

    Returns:
        For each worker, ``CUDA_VISIBLE_DEVICES`` with one GPU if there are any. Several workers on a CPU share its
        threads unless ``OMP_NUM_THREADS`` is set.

    Raises:
        ValueError: if ``workers`` is not a whole number of 1 or more.
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
    """GPUs available to this process, as named in ``CUDA_VISIBLE_DEVICES``."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]
