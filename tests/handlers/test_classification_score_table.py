import csv
import json
import math

import numpy as np
import pytest
import torch
from custom_components.handlers.classification_score_table import ClassificationScoreTable
from custom_components.metrics.classification_scores import summarize_classification
from monai.data import MetaTensor, list_data_collate
from monai.engines import IterationEvents
from PIL import Image

from tests.handlers.evaluator import evaluator_of

KEYS = ("logit", "logit_us", "logit_ss", "attention")


def logit(probability):
    return math.log(probability / (1 - probability))


def case(name, label, ratio, probability, **more):
    image = MetaTensor(torch.zeros(1, 2, 3, 4), meta={"filename_or_obj": f"{name}/ct.nii.gz"})
    value = math.nan if probability is None else logit(probability)
    return {"image": image, "case_id": name, "label": label, "ratio": ratio, "logit": torch.tensor([value]), **more}


def batch_of(*items):
    return list_data_collate(list(items))


class Outputs:
    """Moves the outputs of a network from the input of each case to its output."""

    def attach(self, engine):
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self.move)

    def move(self, engine):
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            output.update({key: item.pop(key) for key in KEYS if key in item})


def evaluate(batches, output_dir, **more):
    evaluator_of(batches, Outputs(), ClassificationScoreTable(output_dir, **more)).run()
    return read(output_dir)


def read(output_dir):
    with (output_dir / "per_case.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((output_dir / "summary.json").read_text(encoding="utf-8"))


MIXED = [
    case("c1", 1, 0.2, 0.9, fold=0, patient_id="p7"),
    case("c2", 1, 0.004, 0.3, fold=1, patient_id="p7"),
    case("k1", 0, 0.0005, 0.4, fold=0, patient_id="p8"),
    case("k2", 0, 0.02, 0.1, fold=1, patient_id="p9"),
]


def test_each_case_has_a_row_and_the_data_set_has_scores(tmp_path):
    rows, summary = evaluate([batch_of(*MIXED[:3]), batch_of(MIXED[3])], tmp_path / "new", protocol="group")
    assert [row["case_id"] for row in rows] == ["c1", "c2", "k1", "k2"]
    row = {"case_id": "c2", "fold": "1", "label": "covid", "size_group": "covid_small", "ratio_band": "< 0.005"}
    row |= {"prediction": "cap", "correct": "0", "attention_dice": ""}
    assert rows[1] == {**row, "ratio": rows[1]["ratio"], "probability": rows[1]["probability"]}
    assert float(rows[1]["probability"]) == pytest.approx(0.3)
    assert float(rows[1]["ratio"]) == pytest.approx(0.004)
    assert summary["protocol"] == "group"
    assert summary["overall"]["auc"] == 0.75
    assert summary["overall"]["sensitivity"] == 0.5
    assert summary["by_size_group"]["covid_small"]["sensitivity"] == 0
    assert summary["by_ratio"]["> 0.030"]["n"] == 1
    assert Image.open(tmp_path / "new" / "roc.png").size == (960, 960)


def test_the_summary_can_be_computed_from_the_table(tmp_path):
    generator = np.random.default_rng(0)
    items = [case(f"{i}", i % 2, float(generator.random()), float(generator.random())) for i in range(40)]
    rows, summary = evaluate([batch_of(*items)], tmp_path)
    again = summarize_classification(
        [{**row, "probability": float(row["probability"]), "attention_dice": None} for row in rows]
    )
    for block in ("by_ratio", "by_size_group"):
        assert {name: pytest.approx(scores, abs=1e-6) for name, scores in again[block].items()} == summary[block]
    assert summary["overall"] == pytest.approx(again["overall"], abs=1e-6)


def test_the_branches_are_scored_too(tmp_path):
    items = [
        case(name, label, 0.01, 0.5, logit_us=torch.tensor([us]), logit_ss=torch.tensor([ss]))
        for name, label, us, ss in [("a", 1, 2.0, -2.0), ("b", 0, -2.0, 2.0)]
    ]
    rows, summary = evaluate([batch_of(*items)], tmp_path)
    assert float(rows[0]["p_us"]) == pytest.approx(1 / (1 + math.exp(-2)))
    assert (summary["branches"]["p_us"]["overall"]["auc"], summary["branches"]["p_ss"]["overall"]["auc"]) == (1, 0)
    assert summary["overall"]["auc"] == 0.5


def test_the_attention_of_covid_cases_is_compared_with_their_infection(tmp_path):
    infection = torch.zeros(1, 2, 3, 4)
    infection[0, 0, 0, :2] = 1
    attention = torch.zeros(1, 2, 3, 4)
    attention[0, 0, 0, 1:3] = 0.9
    maps = {"infection": infection, "attention": attention}
    empty = {"infection": infection * 0, "attention": attention}
    batches = [batch_of(case("a", 1, 0.1, 0.9, **maps)), batch_of(case("b", 0, 0.1, 0.2, **maps))]
    rows, summary = evaluate([*batches, batch_of(case("c", 1, 0.0, 0.8, **empty))], tmp_path)
    assert [row["attention_dice"] for row in rows] == ["0.5", "", ""]
    assert summary["attention_dice"] == {"mean": 0.5, "n": 1}


def test_a_case_with_unknown_ratio_is_listed_and_counted_but_not_scored(tmp_path):
    unknown = case("x", 1, math.nan, None, logit_us=torch.tensor([3.0]))
    known = [case(n, label, 0.1, p, logit_us=torch.tensor([1.0])) for n, label, p in [("a", 1, 0.9), ("b", 0, 0.2)]]
    rows, summary = evaluate([batch_of(unknown), batch_of(*known)], tmp_path)
    row = rows[0]
    assert (row["ratio"], row["size_group"], row["ratio_band"], row["probability"]) == ("", "", "", "")
    assert (row["prediction"], row["correct"]) == ("", "")
    assert float(row["p_us"]) > 0.9
    assert (summary["cases"], summary["cases_without_probability"], summary["overall"]["n"]) == (3, 1, 2)
    assert summary["branches"]["p_us"]["overall"]["n"] == 3
    assert "NaN" not in (tmp_path / "summary.json").read_text() + (tmp_path / "per_case.csv").read_text()


def test_a_network_without_ratio_is_scored(tmp_path):
    _, summary = evaluate([batch_of(case("a", 1, math.nan, 0.9), case("b", 0, math.nan, 0.1))], tmp_path)
    assert (summary["overall"]["auc"], summary["cases_without_ratio"]) == (1, 2)


def test_cases_of_one_class_have_scores_and_no_roc_curve(tmp_path, caplog):
    (tmp_path / "roc.png").write_bytes(b"of an earlier run")
    _, summary = evaluate([batch_of(*MIXED[:2])], tmp_path)
    assert summary["overall"]["auc"] is None
    assert summary["overall"]["specificity"] is None
    assert summary["overall"]["sensitivity"] == 0.5
    assert not (tmp_path / "roc.png").exists()
    assert "No ROC curves are drawn: the 2 cases" in caplog.text


def test_no_file_contains_the_patient(tmp_path):
    evaluate([batch_of(*MIXED)], tmp_path)
    for name in ("per_case.csv", "summary.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "patient" not in text
        assert "p7" not in text
        assert "ct.nii.gz" not in text


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({key: value for key, value in MIXED[0].items() if key != "label"}, "Case c1: label is missing"),
        ({key: value for key, value in MIXED[0].items() if key != "logit"}, "Case c1.*has no 'logit'"),
        (case("a", 2, 0.1, 0.5), r"Case a: label is 2. Expected 1 \(COVID-19\) or 0 \(CAP\)"),
        (case("a", 1, 1.5, 0.5), r"Case a: infection ratio is 1.5"),
        (case("a", 1, 0.1, None), r"Case a: 'logit' is nan. .*mixed precision"),
        (case("a", 1, math.nan, None, logit_us=torch.tensor([math.nan])), r"Case a: 'logit_us' is nan"),
        (case("a", 1, 0.1, 0.5, logit_us=torch.zeros(2)), r"Case a: 'logit_us' has shape \(2,\)"),
        (
            case("a", 1, 0.1, 0.5, attention=torch.zeros(1, 2, 3, 4), infection=torch.ones(1, 4, 3, 2)),
            r"Case a: .*one grid, got \(1, 2, 3, 4\) and \(1, 4, 3, 2\)",
        ),
    ],
)
def test_a_case_that_cannot_be_scored_is_an_error_that_names_it(tmp_path, item, message):
    with pytest.raises(ValueError, match=message):
        evaluate([batch_of(item)], tmp_path)


def test_a_threshold_above_1_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="threshold is 50"):
        ClassificationScoreTable(tmp_path, threshold=50)


def test_three_logits_give_three_classes(tmp_path):
    rows = [("c", 1, [0.1, 0.7, 0.2]), ("k", 0, [0.3, 0.3, 0.4]), ("n", 2, [0.2, 0.1, 0.7])]
    mask = torch.ones(1, 2, 3, 4)
    items = [
        {**case(name, label, 0.0, 0.5, attention=mask, infection=mask), "logit": torch.tensor(shares).log()}
        for name, label, shares in rows
    ]
    found, summary = evaluate([batch_of(*items)], tmp_path)
    assert [row["prediction"] for row in found] == ["covid", "normal", "normal"]
    assert [row["label"] for row in found] == ["covid", "cap", "normal"]
    assert [float(row["p_covid"]) for row in found] == pytest.approx([0.7, 0.3, 0.1])
    assert [row["attention_dice"] for row in found] == ["1.0", "", ""]
    assert summary["confusion_matrix"]["cap"] == {"cap": 0, "covid": 0, "normal": 1}
    assert summary["accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert not (tmp_path / "roc.png").exists()
    with pytest.raises(ValueError, match=r"Case x: label is 3. Expected 1 \(COVID-19\), 0 \(CAP\) or 2 \(normal\)"):
        evaluate([batch_of({**items[0], "case_id": "x", "label": 3})], tmp_path)
