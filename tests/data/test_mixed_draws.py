from collections import Counter

import pytest
from custom_components.data.mixed_draws import MixedDraws
from monai.data import Dataset
from monai.transforms import RandShiftIntensity


def sets():
    return {"few": Dataset([1.0, 2.0]), "many": Dataset([10.0, 11.0, 12.0, 13.0, 14.0])}


def test_data_sets_are_drawn_by_their_shares_and_their_cases_alike():
    mixed = MixedDraws(sets(), {"few": 1, "many": 3}, draws=4000)
    names = Counter(mixed.choice(number) for number in range(4000))
    few = sum(count for (name, _), count in names.items() if name == "few")
    assert 900 < few < 1100
    assert all(500 < count < 700 for (name, _), count in names.items() if name == "many")
    assert len(names) == 7


def test_a_draw_follows_from_seed_and_number_alone():
    def mixed(seed):
        data = {name: Dataset(one.data, RandShiftIntensity(5.0, prob=1.0)) for name, one in sets().items()}
        return MixedDraws(data, {"few": 1, "many": 1}, draws=20, seed=seed)

    one, other = mixed(3), mixed(3)
    backwards = [other[number] for number in reversed(range(40))][::-1]
    assert [one[number] for number in range(40)] == backwards
    assert [mixed(4)[number] for number in range(40)] != backwards


@pytest.mark.parametrize(
    ("shares", "draws", "message"),
    [
        ({"few": 1}, 3, "Name the same ones"),
        ({"few": 1, "many": 0}, 3, "Data set many has share 0 and 5 cases"),
        ({"few": 1, "many": 1}, 0, "draws is 0"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares, draws, message):
    with pytest.raises(ValueError, match=message):
        MixedDraws(sets(), shares, draws)
