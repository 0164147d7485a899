from collections.abc import Iterator, Sized
from typing import Any

from custom_components.data.random_stream import stream_seed
from monai.data import Dataset
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import DistributedSampler


class SeededDraws(TorchDataset[Any]):
    """Cases drawn several times an epoch; what is random in a draw follows from (seed, epoch, place in it) alone.

    A training is therefore the same with any number of data loading processes and after an interruption. Random states
    of transforms would differ between processes and be lost with them.

    Args:
        dataset: MONAI data set with MONAI random transforms.
        draws_per_case: draws of each case per epoch.
        seed: random seed.

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
        """Number of draws per epoch."""
        return len(self.dataset) * self.draws_per_case

    def __getitem__(self, number: int) -> Any:
        """The draw at a position of an epoch.

        Args:
            number: epoch x length + position, from :class:`SeededDrawSampler`.

        Returns:
            The transformed case.
        """
        epoch, place = divmod(number, len(self))
        transform: Any = self.dataset.transform
        transform.set_random_state(seed=stream_seed(self.seed, epoch, place))
        return self.dataset[place % len(self.dataset)]


class SeededDrawSampler(DistributedSampler[int]):
    """Every draw of :class:`SeededDraws` once an epoch, in an order that (seed, epoch) decides.

    It passes the epoch to the data loading processes. It is a DistributedSampler even for a single process, because
    MONAI's engines set the epoch only on that class.

    Args:
        dataset: draws to sample.
        num_replicas: number of training processes.
        rank: rank of this process.
        seed: random seed of the order.

    Example:
        >>> sampler = SeededDrawSampler(range(3))
        >>> sampler.set_epoch(2)
        >>> sorted(sampler)
        [6, 7, 8]
    """

    def __init__(self, dataset: Sized, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Draw numbers of this process."""
        first = self.epoch * len(self.dataset)  # type: ignore[arg-type]
        return (first + place for place in super().__iter__())
