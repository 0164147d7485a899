import math

import pandas as pd
import pytest
from custom_components.study.statistics.bootstrap import BootstrapInterval
from custom_components.study.tables.table import DASH, Cell, Table, interval_of, p_value, table_frame


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(0.12345), "0.123"),
        (Cell(-0.012), "-0.012"),
        (Cell(0.12345, low=-0.1, high=0.2, mark="†"), "0.123† (-0.100 to 0.200)"),
        (Cell(46.25, low=18, high=88, digits=1), "46.2 (18.0 to 88.0)"),
        (Cell(0.9, sd=0.0112), "0.900 ± 0.011"),
        (Cell(n=5), f"{DASH} (n = 5)"),
        (Cell(n=0, mark="†"), f"{DASH} (n = 0)†"),
        (Cell(), ""),
        (Cell(-0.0001, low=-0.0002, high=0.0), "0.000 (0.000 to 0.000)"),
        (p_value(0.00099), "< 0.001"),
        (p_value(0.001), "0.001"),
        (p_value(math.nan, 3), f"{DASH} (n = 3)"),
    ],
    ids=str,
)
def test_a_cell_is_printed_with_its_interval_or_as_a_dash_or_empty(cell, text):
    assert str(cell) == text


def test_a_single_patient_and_an_undefined_number_have_no_interval():
    found = BootstrapInterval(0.8, 0.8, 0.8, n_undefined=0, resamples=100)
    assert [str(interval_of(found, units, n=3)) for units in (1, 2)] == ["0.800", "0.800 (0.800 to 0.800)"]
    cell = interval_of(BootstrapInterval(math.nan, 0.1, 0.9, n_undefined=7, resamples=100), units=4, n=3)
    assert (str(cell), cell.undefined) == (f"{DASH} (n = 3)", 0)


def test_a_head_of_two_levels_joins_neighbours_of_one_name():
    columns = pd.MultiIndex.from_tuples([("TV", "a"), ("TV", "b"), ("Test", "a")])
    table = Table("t", "title", "note", pd.DataFrame([[1, 2, 3]], columns=columns, index=pd.Index(["x"], name="row")))
    assert list(table.head()) == [[("TV", 2), ("Test", 1)], [("a", 1), ("b", 1), ("a", 1)]]


def test_a_row_repeats_a_name_only_if_a_name_before_it_changed():
    keys = [("AUC", "A"), ("AUC", "B"), ("F1", "B")]
    table = Table("t", "", "", table_frame({key: {"n": 1} for key in keys}, ["result", "system"]))
    assert [names for names, _ in table.rows()] == [["AUC", "A"], ["", "B"], ["F1", "B"]]


def test_a_missing_cell_is_empty():
    frame = table_frame({"a": {"x": 1, "y": 2}, "b": {"y": 3}}, ["row"])
    assert [texts for _, texts in Table("t", "", "", frame).rows()] == [["1", "2"], ["", "3"]]
