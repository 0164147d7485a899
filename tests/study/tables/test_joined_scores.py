import csv

import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.study.tables.joined_scores import joined_scores

METRICS = ("dice", "precision", "accuracy")


def write_fold(folder, cases):
    """Cases by name: Dice of ground-glass, consolidation and effusion, or None; every lesion has 10 pixels in both."""
    folder.mkdir()
    with (folder / "per_case.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = [f"{metric}_{lesion}" for metric in METRICS for lesion in LESION_CLASSES]
        pixels = [f"pixels_{side}_{lesion}" for side in ("true", "pred") for lesion in LESION_CLASSES]
        table.writerow(["case_id", *names, *pixels])
        for name, dice in cases.items():
            counts = [0 if value is None else 10 for value in dice]
            table.writerow([name, *(["" if value is None else value for value in dice] * 3), *counts, *counts])
    return str(folder)


@pytest.fixture
def folds(tmp_path):
    first = {"007": (0.2, 0.5, None), "008": (0.4, 0.7, None)}
    return [write_fold(tmp_path / "a", first), write_fold(tmp_path / "b", {"009": (0.9, None, 0.3)})]


def test_the_mean_is_over_all_cases_and_not_over_folds(folds):
    lines = joined_scores(*folds).splitlines()
    assert lines[0] == "| class | Dice | Accuracy | Precision | pooled Dice | cases scored |"
    assert lines[2].startswith("| ground glass | 0.500 (0.200 to 0.900) |")
    assert lines[2].endswith("| 0.500 | 3 |")
    assert lines[3].startswith("| consolidation | 0.600 (0.500 to 0.700) |")
    assert lines[4].startswith("| pleural effusion | 0.300 | 0.300 | 0.300 | 0.300 | 1 |")
    assert lines[5].startswith("| mean | 0.467 (")
    assert lines[-1].startswith("3 cases of 2 evaluations")


def test_an_absent_class_is_a_dash(tmp_path):
    lines = joined_scores(write_fold(tmp_path / "a", {"1": (0.5, None, None), "2": (0.7, None, None)})).splitlines()
    assert lines[4].count("(n = 0)") == 3
    assert lines[5].startswith("| mean | 0.600 (")


def test_a_case_of_two_evaluations_is_refused(folds, tmp_path):
    with pytest.raises(ValueError, match="Case 008 is in two of the evaluations"):
        joined_scores(*folds, write_fold(tmp_path / "c", {"008": (0.1, 0.1, 0.1)}))


@pytest.mark.parametrize("text", [None, "", "case_id,auc\n1,0.5\n"])
def test_a_folder_without_scores_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "per_case.csv").write_text(text)
    with pytest.raises(ValueError, match=r"contains no lesion class scores .* Expected the output folder"):
        joined_scores(str(tmp_path))


def test_an_empty_list_is_an_error():
    with pytest.raises(ValueError, match="No evaluation was given"):
        joined_scores()
