import numpy as np
import pytest
from custom_components.data.mixed_draws import MixedDraws
from custom_components.data.seeded_draws import SeededDrawSampler
from monai.data import Dataset
from monai.transforms import RandScaleIntensity


def mixed(draws: int = 2000, seed: int = 0) -> MixedDraws:
    few, many = (Dataset(values, RandScaleIntensity(0.1, prob=1.0)) for values in ([1.0], [10.0, 20.0, 30.0]))
    return MixedDraws({"few": few, "many": many}, {"few": 3, "many": 1}, draws, seed)


def epoch_of(draws: MixedDraws, epoch: int) -> list[float]:
    sampler = SeededDrawSampler(draws)
    sampler.set_epoch(epoch)
    return [float(draws[number]) for number in sampler]


def test_data_sets_are_drawn_by_their_shares_and_their_cases_equally_often() -> None:
    draws = mixed(8000)
    chosen = [draws.choice(number) for number in range(len(draws))]
    counts = [sum(one == which for one in chosen) for which in [("few", 0), ("many", 0), ("many", 1), ("many", 2)]]
    assert np.allclose(np.array(counts) / len(draws), [3 / 4, 1 / 12, 1 / 12, 1 / 12], atol=0.02)


def test_draws_depend_only_on_seed_and_epoch() -> None:
    first = mixed(50)
    epoch_of(first, 0)
    assert epoch_of(first, 1) == epoch_of(mixed(50), 1)
    assert epoch_of(first, 1) != epoch_of(first, 2)
    assert sorted(epoch_of(first, 1)) != sorted(epoch_of(mixed(50, seed=1), 1))


def test_two_draws_of_one_case_differ() -> None:
    draws = mixed(50)
    values = [float(draws[number]) for number in range(50) if draws.choice(number)[0] == "few"]
    assert len(set(values)) == len(values) > 1


@pytest.mark.parametrize(
    ("shares", "draws", "message"),
    [
        ({"a": 1, "c": 1}, 4, "Use the same names"),
        ({"a": 1, "b": 0}, 4, "Data set b has share 0"),
        ({"a": 1, "b": float("nan")}, 4, "Data set b has share nan"),
        ({"a": 1, "b": 1}, 0, "draws is 0"),
    ],
)
def test_invalid_shares_are_an_error(shares: dict[str, float], draws: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixedDraws({"a": Dataset([1.0]), "b": Dataset([2.0])}, shares, draws)
