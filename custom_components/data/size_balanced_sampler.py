import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.distributed as dist
from custom_components.data.random_stream import stream_seed
from custom_components.infection_size import (
    CAP_LARGE_ABOVE,
    CLASS_NAMES,
    COVID_SMALL_BELOW,
    NORMAL,
    NORMAL_CLASS,
    check_ratio,
    groups_of,
    size_group,
)
from torch.utils.data import DistributedSampler, WeightedRandomSampler

_logger = logging.getLogger(__name__)


class SizeBalancedSampler(DistributedSampler[int]):
    """Draws a group by the size of the infection, then a scan of that group (Ouyang et al. 2020, Sec. III-C).

    1. With N the numbers of scans, the groups covid_small, covid_large, cap_small, cap_large have the weights
       N_covid_large / N_covid_small, 1, 1, N_cap_small / N_cap_large. A group's probability is its weight divided by
       the sum; the scans of a group are equally likely. An epoch has as many draws as scans, with replacement.
    2. The draws depend only on (seed, epoch); the global random state is not used.
    3. Several processes share one sequence of draws; process r uses the positions r, r + R, r + 2R, ...

    PyTorch's WeightedRandomSampler makes the draws. The class is a DistributedSampler even for a single process,
    because MONAI's engines set the epoch only on that class.

    The first process logs the table of groups when the sampler is created, at the start of a training.

    The paper does not cover empty groups: here they are skipped with a warning, the other group of the class gets
    weight 1, and the probabilities are normalised over the other groups. In its data, small COVID-19 and large CAP are
    the rare groups, with weights of about 1.5. In other data they may not be rare: a weight below 1 is a warning,
    because these scans are then drawn less often, not more.

    Normal scans (not in the paper) are one more group of weight 1, as the large COVID-19 and the small CAP: the paper's
    size groups divide the two diseases only.

    Args:
        labels: label of each scan, 1 for COVID-19, 0 for CAP, 2 for a normal scan.
        ratios: infection volume / lung volume of each scan, 0 to 1.
        seed: random seed.
        num_replicas: number of processes; default: that of the process group, or 1 without one.
        rank: rank of this process.
        covid_small_below: COVID-19 with a smaller ratio is small.
        cap_large_above: CAP with a greater ratio is large.
        group_counts: scans of each group in all data, of which these scans are a part (one site of a federation).
            A scan then has the probability that it would have among all data, divided by ``share``; a class or group
            without scans here is not an error.

    Attributes:
        group_counts: scans of each group, of all data.
        group_weights: weight of each group, 0 for an empty one.
        group_probabilities: probability of each group.
        share: probability of these scans among all data; 1 without ``group_counts``.

    Raises:
        ValueError: when a class has no scan, the lists differ in length, a label or ratio is not valid, or
            ``group_counts`` has fewer scans of a group than are here.

    Example:
        >>> sampler = SizeBalancedSampler([1, 1, 1, 0, 0, 0], [0.01, 0.1, 0.2, 0.0, 0.0, 0.5])
        >>> sampler.group_weights
        {'covid_small': 2.0, 'covid_large': 1.0, 'cap_small': 1.0, 'cap_large': 2.0}
        >>> len(list(sampler))
        6
    """

    def __init__(
        self,
        labels: Sequence[int],
        ratios: Sequence[float],
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        covid_small_below: float = COVID_SMALL_BELOW,
        cap_large_above: float = CAP_LARGE_ABOVE,
        group_counts: Mapping[str, int] | None = None,
    ) -> None:
        groups = _groups(labels, ratios, covid_small_below, cap_large_above)
        if group_counts is None:
            _check_classes(groups)
        own = {name: groups.count(name) for name in groups_of(labels)}
        if group_counts is not None:
            _check_part(own, group_counts)
        self.group_counts = own if group_counts is None else dict(group_counts)
        self.group_weights = _group_weights(self.group_counts)
        total = sum(self.group_weights.values())
        self.group_probabilities = {name: weight / total for name, weight in self.group_weights.items()}
        self.weights = torch.tensor(
            [self.group_probabilities[name] / self.group_counts[name] for name in groups],
            dtype=torch.float64,
            device="cpu",
        )
        self.share = 1.0 if group_counts is None else float(self.weights.sum())
        replicas, process = _process(num_replicas, rank)
        super().__init__(range(len(groups)), num_replicas=replicas, rank=process, shuffle=True, seed=seed)  # type: ignore[arg-type]
        if process == 0:
            _logger.info("Size-balanced sampling, draws per epoch: %d\n%s", len(groups), self.table())

    def __iter__(self) -> Iterator[int]:
        """This process's part of the epoch's draws."""
        generator = torch.Generator("cpu").manual_seed(stream_seed(self.seed, self.epoch))
        draw = list(WeightedRandomSampler(self.weights, self.total_size, replacement=True, generator=generator))  # type: ignore[arg-type]
        return iter(draw[self.rank : self.total_size : self.num_replicas])

    def table(self) -> str:
        """Counts, weights and probabilities of the groups as a Markdown table."""
        rows = [
            f"| {name} | {self.group_counts[name]} | {self.group_weights[name]:.3f} "
            f"| {self.group_probabilities[name]:.3f} |"
            for name in self.group_counts
        ]
        return "\n".join(["| group | scans | weight | probability |", "|---|---|---|---|", *rows])


def count_groups(
    labels: Sequence[int],
    ratios: Sequence[float],
    covid_small_below: float = COVID_SMALL_BELOW,
    cap_large_above: float = CAP_LARGE_ABOVE,
) -> dict[str, int]:
    """Scans of each size group; the arguments are those of :class:`SizeBalancedSampler`.

    Raises:
        ValueError: when the lists differ in length, or a label or ratio is not valid.

    Example:
        >>> count_groups([1, 1, 0], [0.01, 0.2, 0.0])
        {'covid_small': 1, 'covid_large': 1, 'cap_small': 1, 'cap_large': 0}
    """
    groups = _groups(labels, ratios, covid_small_below, cap_large_above)
    return {name: groups.count(name) for name in groups_of(labels)}


def _groups(labels: Sequence[int], ratios: Sequence[float], *thresholds: float) -> list[str]:
    for threshold in thresholds:
        check_ratio(threshold)
    if len(labels) != len(ratios):
        raise ValueError(
            f"Got {len(labels)} labels and {len(ratios)} ratios. Expected one label and one ratio per scan."
        )
    groups = []
    for place, (label, ratio) in enumerate(zip(labels, ratios, strict=True)):
        try:
            known = int(label) if label == int(label) else label
            check_ratio(float(ratio))
            groups.append(NORMAL if known == NORMAL_CLASS else size_group(known, float(ratio), *thresholds))
        except (ValueError, TypeError) as error:
            raise ValueError(f"Scan {place} of {len(labels)}: {error}") from error
    return groups


def _check_classes(groups: Sequence[str]) -> None:
    for label, name in CLASS_NAMES.items():
        if not any(group.startswith(name) for group in groups):
            raise ValueError(
                f"None of {len(groups)} scans has label {label} ({name}). Size-balanced sampling needs scans of both "
                "classes: check the datalist and the fold."
            )


def _check_part(own: Mapping[str, int], counts: Mapping[str, int]) -> None:
    for name, count in own.items():
        if count > counts.get(name, 0):
            raise ValueError(
                f"group_counts has {counts.get(name, 0)} scans of {name}, but {count} are here. Expected the counts of "
                "all data, of which these scans are a part."
            )


def _group_weights(counts: dict[str, int]) -> dict[str, float]:
    """Weights in the order of the groups; small COVID-19 and large CAP are the rare groups."""
    weights = {NORMAL: 1.0}
    for rare, common in (("covid_small", "covid_large"), ("cap_large", "cap_small")):
        for name in (rare, common):
            if counts[name] == 0:
                message = f"No scan is in the group {name}: size-balanced sampling skips this group."
                warnings.warn(message, stacklevel=3)
        weights[rare] = counts[common] / counts[rare] if counts[rare] and counts[common] else float(counts[rare] > 0)
        weights[common] = float(counts[common] > 0)
        if 0 < weights[rare] < 1:
            message = (
                f"Size-balanced sampling: {rare} is not rare ({counts[rare]} scans; {common}: {counts[common]}). Its "
                f"weight is {weights[rare]:.3g} (in the paper about 1.5), so its scans are drawn less often. Choose "
                "other thresholds with --train#sampler#covid_small_below, ...#cap_large_above."
            )
            warnings.warn(message, stacklevel=3)
    return {name: weights[name] for name in counts}


def _process(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    grouped = dist.is_available() and dist.is_initialized()
    replicas = (dist.get_world_size() if grouped else 1) if num_replicas is None else num_replicas
    return replicas, (dist.get_rank() if grouped else 0) if rank is None else rank
