import json

import pytest
from custom_components.metrics.classification_scores import summarize_classification
from custom_components.metrics.three_class_scores import summarize_three_classes
from custom_components.reports.score_tables import diagnosis_table, score_table

SUMMARY = {
    "protocol": "group",
    "cases": 7,
    "dice": {"ground_glass": 0.5, "consolidation": 0.25, "pleural_effusion": None, "mean": 0.375},
    "precision": {"ground_glass": 0.6, "consolidation": 0.7, "pleural_effusion": None, "mean": 0.65},
    "accuracy": {"ground_glass": 0.91, "consolidation": 0.92, "pleural_effusion": None, "mean": 0.915},
    "cases_with_class": {"ground_glass": 5, "consolidation": 4, "pleural_effusion": 0},
}


def row(label, probability, band, group, **more):
    return {"label": label, "probability": probability, "ratio_band": band, "size_group": group, **more}


ROWS = [
    row("covid", 0.9, "> 0.030", "covid_large"),
    row("covid", 0.2, "< 0.005", "covid_small"),
    row("cap", 0.3, "< 0.005", "cap_small"),
    row("cap", 0.1, "< 0.005", "cap_small"),
]


def write(folder, rows):
    folder.mkdir()
    path = folder / "summary.json"
    path.write_text(json.dumps({"protocol": "", **summarize_classification(rows)}), encoding="utf-8")
    return path


def test_each_group_has_a_row_of_each_evaluation(tmp_path):
    table = diagnosis_table(write(tmp_path / "uniform", ROWS), write(tmp_path / "plain", ROWS[1:])).splitlines()
    assert table[0].startswith("| infection ratio or size group | system | scans | COVID-19 / CAP | AUC | accuracy |")
    assert table[2] == "| all | uniform | 4 | 2 / 2 | 0.750 | 0.750 | 0.500 | 1.000 | 0.733 |"
    assert table[3].startswith("| all | plain | 3 | 1 / 2 |")
    assert len(table) == 2 + 2 * 8
    assert {line.count("|") for line in table} == {10}


def test_undefined_scores_are_dashes(tmp_path):
    table = diagnosis_table(write(tmp_path / "uniform", ROWS))
    assert "| covid_small | uniform | 1 | 1 / 0 | - | 0.000 | 0.000 | - | - |" in table
    assert "| cap_large | uniform | 0 | 0 / 0 | - | - | - | - | - |" in table


def test_one_evaluation_alone_has_the_name_of_its_system(tmp_path):
    path = write(tmp_path / "some_folder", ROWS)
    path.write_text(json.dumps({"system": "plain", **json.loads(path.read_text(encoding="utf-8"))}), encoding="utf-8")
    assert "| all | plain | 4 |" in diagnosis_table(path)
    assert "| all | some_folder | 4 |" in diagnosis_table(path, write(tmp_path / "other", ROWS))


def test_an_ensemble_comes_after_its_branches(tmp_path):
    rows = [{**case, "p_us": case["probability"], "p_ss": 0.5} for case in ROWS]
    names = [line.split(" | ")[1] for line in diagnosis_table(write(tmp_path / "ds", rows)).splitlines()[2:5]]
    assert names == ["ds: p_us", "ds: p_ss", "ds"]


def test_each_class_has_its_row_and_its_cases(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(SUMMARY))
    lines = score_table(path).splitlines()
    assert lines[2] == "| ground glass | 0.500 | 0.600 | 0.910 | 5 |"
    assert lines[4] == "| pleural effusion | - | - | - | 0 |"
    assert lines[5] == "| mean | 0.375 | 0.650 | 0.915 |  |"
    assert lines[-1] == "7 cases; split: group"


@pytest.mark.parametrize("table", [score_table, diagnosis_table])
@pytest.mark.parametrize("text", [None, "{", "{}", "[]", '{"branches": {}, "overall": {}}'])
def test_another_file_is_refused_with_the_remedy(tmp_path, table, text):
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="`evaluating`"):
        table(path)


def test_no_file_at_all_is_refused():
    with pytest.raises(ValueError, match="No summary was given"):
        diagnosis_table()


def test_three_classes_have_a_confusion_matrix(tmp_path):
    row_of = {"p_cap": 0.2, "p_covid": 0.7, "p_normal": 0.1, "prediction": "covid"}
    summary = summarize_three_classes([{**row_of, "label": "covid"}, {**row_of, "label": "cap", "p_covid": 0.5}])
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    lines = diagnosis_table(tmp_path / "summary.json").splitlines()
    assert lines[0] == (
        "| true class | called cap | called covid | called normal | scans | sensitivity | AUC against the rest |"
    )
    assert lines[2:4] == ["| cap | 0 | 1 | 0 | 1 | 0.000 | 0.500 |", "| covid | 0 | 1 | 0 | 1 | 1.000 | 1.000 |"]
    assert lines[-1] == f"{tmp_path.name}: accuracy 0.500, macro AUC -"
