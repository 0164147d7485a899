"""Borders of the paper's groups and bands, on both sides and on the border itself."""

import pytest
from custom_components.infection_size import CAP, COVID, check_ratio, ratio_band, size_group


@pytest.mark.parametrize(
    ("label", "ratio", "group"),
    [
        (COVID, 0.0, "covid_small"),
        (COVID, 0.0299, "covid_small"),
        (COVID, 0.030, "covid_large"),
        (COVID, 1.0, "covid_large"),
        (CAP, 0.0, "cap_small"),
        (CAP, 0.001, "cap_small"),
        (CAP, 0.0011, "cap_large"),
        (CAP, 1.0, "cap_large"),
    ],
)
def test_small_covid_is_below_3_percent_and_large_cap_above_a_thousandth(label, ratio, group):
    assert size_group(label, ratio) == group


@pytest.mark.parametrize(
    ("ratio", "band"),
    [
        (0.0, "< 0.005"),
        (0.0049, "< 0.005"),
        (0.005, "0.005 - 0.030"),
        (0.030, "0.005 - 0.030"),
        (0.0301, "> 0.030"),
        (1.0, "> 0.030"),
        (float("nan"), ""),
    ],
)
def test_both_ends_belong_to_the_middle_band(ratio, band):
    assert ratio_band(ratio) == band


@pytest.mark.parametrize("ratio", [-0.01, 1.01, float("nan")])
def test_what_is_no_share_of_the_lungs_is_refused_by_the_name_of_the_case(ratio):
    with pytest.raises(ValueError, match=rf"Case 012: infection ratio is {ratio:g}\. Expected infection volume"):
        check_ratio(ratio, "012")
