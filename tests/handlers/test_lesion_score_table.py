import csv
import json
import logging

import pytest
import torch
from custom_components.handlers.lesion_score_table import LesionScoreTable
from custom_components.metrics.lesion_scores import LesionScores
from monai.data import MetaTensor, list_data_collate
from monai.handlers import IgniteMetricHandler, from_engine

from tests.handlers.evaluator import evaluator_of


def batch_of(name, predicted, actual, lung=None):
    tensors = {"image": predicted, "label": actual} | ({} if lung is None else {"lung": lung})
    meta = {"filename_or_obj": f"images/{name}.png"}
    item = {key: MetaTensor(torch.tensor(values)[None], meta=meta) for key, values in tensors.items()}
    return list_data_collate([item])


def evaluate(batches, output_dir, protocol="group"):
    metric = IgniteMetricHandler(metric_fn=LesionScores(), output_transform=from_engine(["pred", "label"]))
    handler = LesionScoreTable(output_dir, "val_mean_dice", protocol=protocol)
    evaluator = evaluator_of(batches, handler, key_val_metric={"val_mean_dice": metric})
    evaluator.run()
    with (output_dir / "per_case.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return evaluator, rows, json.loads((output_dir / "summary.json").read_text(encoding="utf-8"))


def test_each_case_has_a_row_and_the_data_set_has_a_summary(tmp_path):
    batches = [
        batch_of("012", [[0.0, 1, 1], [2, 0, 3]], [[0.0, 1, 0], [2, 2, 255]]),
        batch_of("013", [[0.0, 0, 0], [0, 0, 0]], [[0.0, 0, 0], [0, 0, 0]]),
    ]
    evaluator, rows, summary = evaluate(batches, tmp_path / "new" / "folder")
    assert [row["case_id"] for row in rows] == ["012", "013"]
    assert float(rows[0]["dice_ground_glass"]) == pytest.approx(2 / 3)
    assert float(rows[0]["precision_ground_glass"]) == 0.5
    assert float(rows[0]["accuracy_consolidation"]) == 0.8
    assert (rows[0]["pixels_true_consolidation"], rows[0]["pixels_pred_consolidation"]) == ("2", "1")
    assert rows[0]["dice_pleural_effusion"] == rows[1]["dice_ground_glass"] == ""
    assert list(summary.items())[:2] == [("protocol", "group"), ("cases", 2)]
    assert summary["dice"]["pleural_effusion"] is None
    assert summary["dice"]["mean"] == pytest.approx(evaluator.state.metrics["val_mean_dice"])


def test_the_infected_percent_of_the_lung_is_given_for_truth_and_prediction(tmp_path):
    lung = [[1.0, 1, 1], [1, 1, 0]]
    batch = batch_of("012", [[1.0, 1, 0], [0, 1, 1]], [[2.0, 0, 0], [0, 255, 3]], lung)
    _, rows, _ = evaluate([batch, batch_of("013", [[0.0]], [[0.0]], [[0.0]])], tmp_path)
    assert float(rows[0]["infection_percent_true"]) == 25
    assert float(rows[0]["infection_percent_pred"]) == 50
    assert rows[1]["infection_percent_true"] == ""
    assert "source" not in rows[0]


def test_the_log_ends_with_the_scores_and_their_folder(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        evaluate([batch_of("012", [[0.0, 1], [2, 0]], [[0.0, 1], [2, 2]])], tmp_path)
    assert "1 cases scored." in caplog.text
    assert "| consolidation | 0.667 | 1.000 | 0.750 | 1 |" in caplog.text
    assert f"Written: {tmp_path}" in caplog.text


def test_a_missing_metric_is_an_error_that_names_it(tmp_path):
    evaluator = evaluator_of([batch_of("012", [[1.0]], [[1.0]])], LesionScoreTable(tmp_path, "dice"))
    with pytest.raises(ValueError, match=r"no metric 'dice'.*LesionScores"):
        evaluator.run()


def test_scores_are_assigned_correctly_with_repeated_and_unnamed_cases(tmp_path):
    right, wrong = batch_of("012", [[1.0, 1]], [[1.0, 1]]), batch_of("013", [[0.0, 0]], [[1.0, 1]])
    nameless = {key: torch.zeros(1, 1, 1, 2) + (key == "label") for key in ("image", "label")}
    _, rows, summary = evaluate([right, right, wrong, nameless, nameless], tmp_path)
    assert [row["dice_ground_glass"] for row in rows] == ["1.0", "0.0", "0.0", "0.0"]
    assert (summary["cases"], summary["dice"]["ground_glass"]) == (4, 0.25)
