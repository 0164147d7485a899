from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

# Slices that a CPU works on at once, each on one core: much of a network's work is sorting and small products, which
# several cores do not share well. Each takes about 0.6 GB.
MAX_WORKERS = 8


class EachSliceInferer(Inferer):
    """Run another inferer on each slice of a volume; on a CPU one slice per core, in parallel.

    Each slice is computed by one core, so the result does not depend on the number of cores. On any other device the
    inferer gets the whole volume.

    Args:
        inferer: the inferer to run, such as MONAI's ``SliceInferer``; a copy of it runs each slice.
        progress: whether to show a progress bar of the slices on a CPU.

    Example:
        >>> from monai.inferers import SliceInferer
        >>> inferer = EachSliceInferer(SliceInferer(roi_size=(4, 5), spatial_dim=2))
        >>> inferer(torch.ones(1, 1, 4, 5, 3), lambda slices: 2 * slices).sum().item()
        120.0
    """

    def __init__(self, inferer: Inferer, progress: bool = False) -> None:
        self.inferer = inferer
        self.progress = progress

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Run the inferer on volumes (B, C, X, Y, Z); slices are X by Y.

        Returns:
            As the inferer returns for the whole volume.
        """
        if inputs.device.type != "cpu":
            return self.inferer(inputs, network, *args, **kwargs)
        wants_gradients, threads = torch.is_grad_enabled(), torch.get_num_threads()  # each thread has its own

        def infer(part: torch.Tensor) -> Any:
            with torch.set_grad_enabled(wants_gradients):
                return deepcopy(self.inferer)(part, network, *args, **kwargs)  # SliceInferer changes itself when called

        plain = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        try:
            with ThreadPoolExecutor(
                min(threads, MAX_WORKERS), initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                slices = pool.map(infer, plain.split(1, dim=-1))
                found = torch.cat(list(tqdm(slices, total=plain.shape[-1], disable=not self.progress)), dim=-1)
        finally:
            torch.set_num_threads(threads)
        return convert_to_dst_type(found, inputs)[0]
