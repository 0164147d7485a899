import csv

import pandas as pd
import pytest
from custom_components.files.report_files import quoted, unquoted, write_csv
from custom_components.study.results.study_results import read_case_table
from custom_components.study.tables.table import Table
from custom_components.study.tables.table_files import csv_text
from hypothesis import given
from hypothesis import strategies as st

FORMULAS = ("=cmd|'/C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "\r=1")
NAMES = (*FORMULAS, "covid_017", "-12.5", "'=not one", "1e5")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_name_that_would_be_computed_is_quoted(text):
    assert quoted(text) == f"'{text}"


@given(st.text("=+-@'\t\r1.e a", max_size=6))
def test_what_is_quoted_is_read_as_it_was_unless_it_was_quoted_before(text):
    if not text.startswith("'"):
        assert unquoted(quoted(text)) == text


def test_the_table_of_cases_is_harmless_to_a_spreadsheet_and_the_study_reads_it_as_it_was(tmp_path):
    names = [name for name in NAMES if not name.startswith("'") and "\r" not in name]
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
