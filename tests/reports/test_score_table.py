import json

import pytest
from custom_components.reports.score_tables import score_table

SUMMARY = {
    "protocol": "group",
    "cases": 7,
    "dice": {"ground_glass": 0.5, "consolidation": 0.25, "pleural_effusion": None, "mean": 0.375},
    "precision": {"ground_glass": 0.6, "consolidation": 0.7, "pleural_effusion": None, "mean": 0.65},
    "accuracy": {"ground_glass": 0.91, "consolidation": 0.92, "pleural_effusion": None, "mean": 0.915},
    "cases_with_class": {"ground_glass": 5, "consolidation": 4, "pleural_effusion": 0},
}


def test_each_class_has_its_row_and_its_cases(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(SUMMARY))
    lines = score_table(path).splitlines()
    assert lines[2] == "| ground glass | 0.500 | 0.600 | 0.910 | 5 |"
    assert lines[4] == "| pleural effusion | - | - | - | 0 |"
    assert lines[5] == "| mean | 0.375 | 0.650 | 0.915 |  |"
    assert lines[-1] == "7 cases; split: group"


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_another_file_is_refused_with_the_remedy(tmp_path, text):
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="Run `evaluating` first"):
        score_table(path)
