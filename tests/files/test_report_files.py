import csv
import math

import pandas as pd
import pytest
from custom_components.files.report_files import quoted, unquoted, write_csv, write_json
from custom_components.study.results.study_results import read_case_table
from custom_components.study.tables.table import Table
from custom_components.study.tables.table_files import csv_text
from hypothesis import given
from hypothesis import strategies as st

FORMULAS = ("=cmd|'/C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1")


def test_a_number_that_json_cannot_store_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "report.json", {"auc": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_a_table_has_the_columns_of_all_its_rows(tmp_path):
    write_csv(tmp_path / "table.csv", [{"case_id": "ä1", "p": 0.25}, {"case_id": "b", "q": None}])
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"case_id": "ä1", "p": "0.25", "q": ""}, {"case_id": "b", "p": "", "q": ""}]


def test_a_table_without_rows_still_names_its_first_column(tmp_path):
    write_csv(tmp_path / "table.csv", [])
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").split() == ["case_id"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_that_is_a_formula_is_quoted(text):
    assert quoted(text) == f"'{text}"


@given(st.text("=+-@'\t\r1.e a", max_size=6))
def test_quoting_is_undone_when_reading(text):
    if not text.startswith("'"):
        assert unquoted(quoted(text)) == text


def test_a_table_of_cases_contains_no_formula_and_is_read_back_unchanged(tmp_path):
    names = [*(name for name in FORMULAS if "\r" not in name), "covid_017", "-12.5", "1e5"]
    write_csv(tmp_path / "per_case.csv", [{"case_id": name, "ratio": -0.5} for name in names])
    with (tmp_path / "per_case.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["case_id"] for row in csv.DictReader(file)]
    assert not [cell for cell in cells if cell in FORMULAS]
    table = read_case_table(tmp_path / "per_case.csv")
    assert table["case_id"].tolist() == names
    assert table["ratio"].tolist() == [-0.5] * len(names)


def test_names_of_a_data_set_in_the_tables_of_a_study_are_quoted():
    frame = pd.DataFrame({"=column()": [0.5]}, index=pd.Index(["=site()"], name="site"))
    text = csv_text(Table(name="t", title="t", frame=frame, note="n"))
    assert "'=site()" in text
    assert "'=column()" in text
