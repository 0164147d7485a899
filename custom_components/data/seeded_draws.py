from collections.abc import Iterator, Sized
from typing import Any

from custom_components.data.random_stream import stream_seed
from monai.data import Dataset
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import DistributedSampler


class SeededDraws(TorchDataset[Any]):
    """Cases drawn several times an epoch; what is random in a draw follows from (seed, epoch, place in it) alone.

    So a training is the same whatever the number of loading processes, and goes on after an interruption as if there
    had been none: the random state of a transform would be one of each process, and forgotten with it.

    Args:
        dataset: MONAI's; its random transforms are MONAI's too.
        draws_per_case: how often an epoch has each case.
        seed: another seed draws otherwise.

    Raises:
        ValueError: when the number of draws is below 1.

    Example:
        >>> from monai.transforms import RandScaleIntensity
        >>> dataset = Dataset([1.0, 2.0], RandScaleIntensity(0.5, prob=1.0))
        >>> draws = SeededDraws(dataset, draws_per_case=3)
        >>> len(draws), float(draws[4]) == float(draws[4]), float(draws[0]) == float(draws[2])
        (6, True, False)
    """

    def __init__(self, dataset: Dataset, draws_per_case: int = 1, seed: int = 0) -> None:
        if draws_per_case < 1:
            raise ValueError(f"draws_per_case is {draws_per_case}. Expected 1 or more.")
        self.dataset, self.draws_per_case, self.seed = dataset, draws_per_case, seed

    def __len__(self) -> int:
        """Draws of an epoch."""
        return len(self.dataset) * self.draws_per_case

    def __getitem__(self, number: int) -> Any:
        """The draw at a place of an epoch.

        Args:
            number: epoch x length + place, as :class:`SeededDrawSampler` gives it.

        Returns:
            The transformed case.
        """
        epoch, place = divmod(number, len(self))
        transform: Any = self.dataset.transform
        transform.set_random_state(seed=stream_seed(self.seed, epoch, place))
        return self.dataset[place % len(self.dataset)]


class SeededDrawSampler(DistributedSampler[int]):
    """Every draw of :class:`SeededDraws` once an epoch, in an order that (seed, epoch) decides.

    Tells the loading processes the epoch, which they would not learn otherwise. A DistributedSampler also for a single
    process, because that is what MONAI's engines tell the epoch to.

    Args:
        dataset: the draws.
        num_replicas: number of training processes.
        rank: which of them this is.
        seed: another seed gives another order.

    Example:
        >>> sampler = SeededDrawSampler(range(3))
        >>> sampler.set_epoch(2)
        >>> sorted(sampler)
        [6, 7, 8]
    """

    def __init__(self, dataset: Sized, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Numbers of this process's draws."""
        first = self.epoch * len(self.dataset)  # type: ignore[arg-type]
        return (first + place for place in super().__iter__())
