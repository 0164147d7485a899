import pytest
import torch
from custom_components import SeededDraws, SeededDrawSampler
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, OneOf, RandGaussianNoised, RandRotate90d, RandZoomd, ToTensord


def draws_of(num_cases=5, draws_per_case=2, seed=3):
    rows = [{"image": torch.full((1, 6, 6), float(case)) + torch.arange(6)} for case in range(num_cases)]
    changes = OneOf([RandRotate90d("image", prob=1.0), RandZoomd("image", prob=1.0, min_zoom=0.5, max_zoom=2.0)])
    transform = Compose([ToTensord("image"), changes, RandGaussianNoised("image", prob=1.0)])
    return SeededDraws(CacheDataset(rows, transform, progress=False), draws_per_case, seed)


def epochs_of(draws, epochs, num_workers=0, num_replicas=1, rank=0):
    """Batches of some epochs."""
    sampler = SeededDrawSampler(draws, num_replicas=num_replicas, rank=rank, seed=draws.seed)
    loader = DataLoader(
        draws, batch_size=2, sampler=sampler, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    batches = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        batches += [batch["image"].as_tensor() for batch in loader]
    return batches


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one, other)


def test_an_epoch_does_not_depend_on_earlier_ones():
    through, later = epochs_of(draws_of(), (1, 2, 3)), epochs_of(draws_of(), (3,))
    assert_same(through[-5:], later)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_the_draws_do_not_depend_on_the_number_of_workers(num_workers):
    assert_same(epochs_of(draws_of(), (1, 2)), epochs_of(draws_of(), (1, 2), num_workers))


def test_two_processes_share_the_batches_of_one():
    whole = torch.cat(epochs_of(draws_of(num_cases=4), (2,)))
    parts = [torch.cat(epochs_of(draws_of(num_cases=4), (2,), num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def test_the_draws_of_all_epochs_are_numbered_consecutively():
    sampler = SeededDrawSampler(range(5))
    numbers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        numbers += sorted(sampler)
    assert numbers == list(range(15))


def test_epochs_draws_and_seeds_give_different_images():
    draws = draws_of(num_cases=1, draws_per_case=4)
    images = [draws[number]["image"] for number in range(8)] + [
        draws_of(num_cases=1, draws_per_case=4, seed=4)[number]["image"] for number in range(4)
    ]
    assert len({tuple(image.flatten().tolist()) for image in images}) == 12


def test_an_epoch_has_each_case_as_often_as_requested():
    draws, sampler = draws_of(num_cases=5, draws_per_case=3), SeededDrawSampler(range(15))
    sampler.set_epoch(7)
    places = [number - 7 * 15 for number in sampler]
    assert sorted(place % 5 for place in places) == sorted([*range(5)] * 3)
    assert places != sorted(places)
    assert len(draws) == 15


def test_0_draws_are_an_error():
    with pytest.raises(ValueError, match=r"draws_per_case is 0\. Expected 1 or more"):
        draws_of(draws_per_case=0)
