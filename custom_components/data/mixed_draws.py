from collections.abc import Mapping
from typing import Any

import numpy as np
from custom_components.data.random_stream import stream_seed
from monai.data import Dataset
from torch.utils.data import Dataset as TorchDataset


class MixedDraws(TorchDataset[Any]):
    """Draws from several data sets by stated shares; a draw follows from (seed, epoch, place in it) alone.

    A draw selects a data set with the probability of its share, then one of its cases uniformly. Use
    :class:`SeededDrawSampler`, as for ``SeededDraws``, so that a training is the same with any number of data loading
    processes and after an interruption.

    Args:
        datasets: MONAI data sets by name, with MONAI random transforms.
        shares: relative share of each data set by name; they need not add up to 1.
        draws: number of draws per epoch.
        seed: random seed.

    Raises:
        ValueError: when names differ, a share is not positive and finite, a set is empty, or draws is below 1.

    Example:
        >>> mixed = MixedDraws({"a": Dataset([1.0]), "b": Dataset([2.0, 3.0])}, {"a": 1, "b": 3}, draws=8)
        >>> len(mixed), mixed[5] == mixed[5]
        (8, True)
    """

    def __init__(self, datasets: Mapping[str, Dataset], shares: Mapping[str, float], draws: int, seed: int = 0) -> None:
        if set(datasets) != set(shares):
            raise ValueError(f"Shares are for {sorted(shares)}, data sets are {sorted(datasets)}. Use the same names.")
        for name, share in shares.items():
            if not 0 < share < float("inf") or not len(datasets[name]):
                raise ValueError(
                    f"Data set {name} has share {share} and {len(datasets[name])} cases. Expected a positive share and "
                    "one case or more: otherwise remove the data set."
                )
        if draws < 1:
            raise ValueError(f"draws is {draws}. Expected 1 or more.")
        self.datasets, self.draws, self.seed = dict(datasets), draws, seed
        total = sum(shares.values())
        self.probabilities = {name: shares[name] / total for name in datasets}

    def __len__(self) -> int:
        """Number of draws per epoch."""
        return self.draws

    def choice(self, number: int) -> tuple[str, int]:
        """Data set name and case index of a draw (epoch x length + position)."""
        generator = np.random.default_rng(stream_seed(self.seed, *divmod(number, self.draws), 1))
        name = list(self.datasets)[generator.choice(len(self.datasets), p=list(self.probabilities.values()))]
        return name, int(generator.integers(len(self.datasets[name])))

    def __getitem__(self, number: int) -> Any:
        """The transformed case of a draw (epoch x length + position, from :class:`SeededDrawSampler`)."""
        name, index = self.choice(number)
        dataset = self.datasets[name]
        transform: Any = dataset.transform
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=stream_seed(self.seed, *divmod(number, self.draws)))
        return dataset[index]
