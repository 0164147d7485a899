import math

import numpy as np
import pandas as pd
import pytest
from custom_components.infection_size import RATIO_BANDS, ratio_band
from custom_components.study.results.subgroups import MOST_GROUPS, can_group_by, split_subgroups, subgroup_of
from hypothesis import given, settings
from hypothesis import strategies as st

RATIOS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.005, 0.030, 1.0, math.nan]))


def sizes(cases, column):
    return {name: len(rows) for name, rows in split_subgroups(cases, column).items()}


@given(st.lists(RATIOS, max_size=30))
@settings(max_examples=50, deadline=None)
def test_each_scan_of_known_ratio_is_in_the_papers_band_and_no_other(ratios):
    cases = pd.DataFrame({"ratio": pd.Series(ratios, dtype=float)})
    groups = split_subgroups(cases, "ratio")
    assert tuple(groups) == RATIO_BANDS
    for name, rows in groups.items():
        assert [ratio_band(ratio) for ratio in rows["ratio"]] == [name] * len(rows)
    assert sum(len(rows) for rows in groups.values()) == sum(not math.isnan(ratio) for ratio in ratios)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *[(0, "0 - 17"), (17.9, "0 - 17"), (18, "18 - 39"), (40, "40 - 59"), (60, "60 - 79"), (80, "80 and over")],
        *[("39", "18 - 39"), ("017Y", "0 - 17"), ("011M", "0 - 17"), ("230M", "18 - 39"), ("098Y", "80 and over")],
    ],
)
def test_an_age_is_in_the_band_that_begins_at_or_below_it(age, band):
    assert subgroup_of(pd.DataFrame({"age": [age]}), "age").tolist() == [band]


@pytest.mark.parametrize("unknown", [None, math.nan, pd.NA, ""])
def test_an_unknown_age_or_sex_is_in_no_group(unknown):
    cases = pd.DataFrame({"age": [50, unknown], "sex": ["F", unknown]}, dtype=object)
    assert sizes(cases, "age") == {"0 - 17": 0, "18 - 39": 0, "40 - 59": 1, "60 - 79": 0, "80 and over": 0}
    assert sizes(cases, "sex") == {"F": 1}


@pytest.mark.parametrize("age", ["old", -1, 430, "52 years"])
def test_an_invalid_age_is_refused(age):
    with pytest.raises(ValueError, match=r"age is .* Expected years, such as 52, or a DICOM age, such as 052Y"):
        subgroup_of(pd.DataFrame({"age": [age]}, dtype=object), "age")


def test_a_percentage_is_not_a_ratio():
    with pytest.raises(ValueError, match="infection ratio is 12"):
        subgroup_of(pd.DataFrame({"ratio": [12.0]}), "ratio")


def test_groups_of_a_column_are_its_values_in_order():
    cases = pd.DataFrame({"site": ["Wuhan", "Jilin", "Wuhan", "Hangzhou"], "tesla": [3, 10, math.nan, 3]})
    assert list(sizes(cases, "site").items()) == [("Hangzhou", 1), ("Jilin", 1), ("Wuhan", 2)]
    assert list(sizes(cases, "tesla").items()) == [("3", 2), ("10", 1)]


def test_many_numbers_are_split_into_thirds():
    weights = np.random.default_rng(0).normal(70, 12, 90)
    groups = split_subgroups(pd.DataFrame({"weight_kg": weights}), "weight_kg")
    assert [len(rows) for rows in groups.values()] == [30, 30, 30]
    low, middle, high = (rows["weight_kg"] for rows in groups.values())
    assert low.max() < middle.min() <= middle.max() < high.min()
    assert next(iter(groups)) == f"<= {np.quantile(weights, 1 / 3):.4g}"


def test_a_text_column_with_many_values_has_no_groups():
    cases = pd.DataFrame({"scanner": [f"model {number}" for number in range(MOST_GROUPS + 1)]})
    with pytest.raises(ValueError, match=r"Column scanner has 13 different values. Expected at most 12: merge"):
        subgroup_of(cases, "scanner")
    assert can_group_by(cases.iloc[1:], "scanner")
    assert not can_group_by(cases, "scanner")
    assert not can_group_by(cases.iloc[:1], "scanner")


def test_mostly_equal_numbers_are_not_split():
    cases = pd.DataFrame({"dose": [0.0] * 200 + list(range(1, 20))})
    with pytest.raises(ValueError, match="Column dose has too many equal values"):
        subgroup_of(cases, "dose")


def test_rows_stay_with_their_group_whatever_their_index():
    cases = pd.DataFrame({"sex": ["F", "M", "M"], "case_id": ["a", "b", "c"]}, index=[7, 7, 2])
    assert {name: rows["case_id"].tolist() for name, rows in split_subgroups(cases, "sex").items()} == {
        "F": ["a"],
        "M": ["b", "c"],
    }
