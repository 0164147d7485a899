import csv
import math

import pytest
from custom_components.files.report_files import write_csv, write_json


def test_a_number_that_json_does_not_have_leaves_no_file(tmp_path):
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
