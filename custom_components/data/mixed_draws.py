from collections.abc import Mapping
from typing import Any

import numpy as np
from custom_components.data.random_stream import stream_seed
from monai.data import Dataset
from torch.utils.data import Dataset as TorchDataset


class MixedDraws(TorchDataset[Any]):
    """Draws from several data sets by stated shares; a draw follows from (seed, epoch, place in it) alone.

    A draw chooses a data set with the probability of its share, then one of its cases, each as likely as the others.
    Sampled by :class:`SeededDrawSampler`, as ``SeededDraws`` is, so that a training is the same with any number of
    loading processes and after an interruption.

    Args:
        datasets: MONAI data sets by name; their random transforms are MONAI's too.
        shares: relative share of each, by the same names; they need not add up to 1.
        draws: draws of an epoch.
        seed: another seed draws otherwise.

    Raises:
        ValueError: when names differ, a share is not positive and finite, a set is empty, or draws is below 1.

    Example:
        >>> mixed = MixedDraws({"a": Dataset([1.0]), "b": Dataset([2.0, 3.0])}, {"a": 1, "b": 3}, draws=8)
        >>> len(mixed), mixed[5] == mixed[5]
        (8, True)
    """

    def __init__(self, datasets: Mapping[str, Dataset], shares: Mapping[str, float], draws: int, seed: int = 0) -> None:
        if set(datasets) != set(shares):
            raise ValueError(f"Shares are of {sorted(shares)}, data sets are {sorted(datasets)}. Name the same ones.")
        for name, share in shares.items():
            if not 0 < share < float("inf") or not len(datasets[name]):
                raise ValueError(
                    f"Data set {name} has share {share} and {len(datasets[name])} cases. Expected a positive share and "
                    "one case or more: leave the set out otherwise."
                )
        if draws < 1:
            raise ValueError(f"draws is {draws}. Expected 1 or more.")
        self.datasets, self.draws, self.seed = dict(datasets), draws, seed
        total = sum(shares.values())
        self.probabilities = {name: shares[name] / total for name in datasets}

    def __len__(self) -> int:
        """Draws of an epoch."""
        return self.draws

    def choice(self, number: int) -> tuple[str, int]:
        """Name of the data set, and index of the case in it, of a draw (epoch x length + place)."""
        generator = np.random.default_rng(stream_seed(self.seed, *divmod(number, self.draws), 1))
        name = list(self.datasets)[generator.choice(len(self.datasets), p=list(self.probabilities.values()))]
        return name, int(generator.integers(len(self.datasets[name])))

    def __getitem__(self, number: int) -> Any:
        """The transformed case of a draw (epoch x length + place, as :class:`SeededDrawSampler` gives it)."""
        name, index = self.choice(number)
        dataset = self.datasets[name]
        transform: Any = dataset.transform
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(seed=stream_seed(self.seed, *divmod(number, self.draws)))
        return dataset[index]
