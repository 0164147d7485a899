import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.study.plans.attention_panels import choose_panels
from custom_components.study.plans.cap_study import ENSEMBLE_TITLE, CapStudy
from custom_components.study.plans.study_data import scan_data
from custom_components.study.results.study_results import TV, ClassificationResults
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import check_plan

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

SMALL = {"layers": [1, 1, 1, 1], "block_inplanes": [2, 3, 4, 5], "network_def#alpha": 50, "epochs": 3}


def results_of(rows: list[tuple[str, int, float, float]], folds: int = 1) -> ClassificationResults:
    """Results of scans given as case id, label, ratio and probability."""
    cases = pd.DataFrame(rows, columns=["case_id", "label", "ratio", "probability"]).assign(set=TV, patient_id="p")
    cases = cases.assign(fold=[number * folds // len(rows) for number in range(len(rows))])
    predictions = cases[["set", "fold", "case_id", "probability"]].assign(system=ENSEMBLE_TITLE, attention_dice=0.0)
    rule = {"w_outside": 0.25, "w_inside": 0.75, "low": 0.002, "high": 0.04, "auc": 0.9}
    rules = pd.DataFrame([{"set": TV, "fold": fold, **rule} for fold in range(folds)])
    return ClassificationResults(
        {"nested": "words"}, cases.drop(columns="probability"), predictions, (ENSEMBLE_TITLE,), rules, {}
    )


SCANS = [
    ("large_sure", 1, 0.2, 0.99),
    ("large_unsure", 1, 0.2, 0.51),
    ("small", 1, 0.001, 0.6),
    ("medium", 1, 0.02, 0.7),
    ("missed_little", 1, 0.02, 0.4),
    ("missed_much", 1, 0.02, 0.1),
    ("cap_right", 0, 0.02, 0.2),
    ("cap_wrong", 0, 0.02, 0.95),
]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (6, ["small", "medium", "large_sure", "missed_much", "missed_little", "cap_wrong"]),
        (3, ["small", "medium", "missed_much"]),
        (8, ["small", "medium", "large_sure", "large_unsure", "missed_much", "missed_little", "cap_wrong"]),
        (1, ["small"]),
        (0, []),
    ],
)
def test_correct_scans_go_from_small_to_large_and_failures_from_worst(count, expected):
    assert choose_panels(results_of(SCANS), count) == expected


def test_without_failures_more_correct_scans_are_shown():
    right = [row for row in SCANS if row[0] in ("small", "medium", "large_sure", "large_unsure")]
    assert len(choose_panels(results_of(right), 4)) == 4


def test_a_scan_without_probability_is_not_shown():
    assert choose_panels(results_of([("a", 1, 0.2, float("nan")), ("b", 1, 0.2, 0.9)]), 4) == ["b"]


@pytest.fixture
def study(tmp_path):
    return CapStudy(
        ROOT / "covid_cap_bundle", tmp_path / "study", scan_data(write_scans(tmp_path / "scans")), overrides=SMALL
    )


@pytest.fixture
def results(study):
    """COVID-19 scans are right in the folds 0 and 2 and wrong in 1."""
    rows = [
        (scan["case_id"], scan["label"], scan["ratio"], 0.1 if scan["fold"] == 1 or not scan["label"] else 0.9)
        for scan in study.data.cases
    ]
    return results_of(rows, folds=3)


def test_scans_are_shown_by_models_not_trained_on_them(study, results):
    runs = replace(study, num_panels=5).panel_runs(results)
    check_plan(runs, [run.name for run in study.runs()])
    assert [run.name for run in runs] == ["panels/fold_0/show", "panels/fold_1/show", "panels/fold_2/show"]
    for fold, run in enumerate(runs):
        assert run.needs == tuple(f"{name}/fold_{fold}/train" for name in ("attention_us", "attention_ss", "plain_us"))
        assert run.places["plain_ckpt_path"] == study.training("plain_us", fold).folder / "models/last.pt"
    shown = [scan for run in runs for scan in run.outputs]
    assert len(shown) == 5
    assert runs[1].outputs == ("eval/004/004_attention.png", "eval/005/005_attention.png")


def test_the_network_has_the_searched_rule_and_the_settings_of_the_training(study, results):
    run = replace(study, num_panels=2).panel_runs(results)[0]
    content = config_content(run.config_paths, run.overrides)
    assert (content["weights"], content["ratio_thresholds"]) == ([0.25, 0.75], [0.002, 0.04])
    assert (content["layers"], content["branch_def"]["alpha"]) == ([1, 1, 1, 1], 50)
    assert "alpha" not in content["network_def"]
    assert "epochs" not in content


def test_nothing_is_shown_without_both_branches_or_a_rule_or_panels(study, results):
    assert replace(study, num_panels=0).panel_runs(results) == []
    assert replace(study, systems=("plain_us", "attention_us")).panel_runs(results) == []
    assert study.panel_runs(replace(results, ensemble=results.ensemble.iloc[:0])) == []
    unknown = results.ensemble.assign(w_inside=float("nan"))
    assert study.panel_runs(replace(results, ensemble=unknown)) == []


def test_the_inference_reads_both_branches_and_the_chosen_scans(study, results):
    torch.manual_seed(1)
    small = {"layers": (1, 1, 1, 1), "block_inplanes": (2, 3, 4, 5)}
    branches = {name: AttentionResNet(**small) for name in ("attention_us", "attention_ss")}
    for name, network in branches.items():
        training = study.training(name, 1)
        path = training.folder / training.outputs[0]
        path.parent.mkdir(parents=True)
        torch.save(network.state_dict(), path)
    run = next(run for run in replace(study, num_panels=5).panel_runs(results) if "fold_1" in run.name)
    joint = DualSamplingNet(AttentionResNet(**small), AttentionResNet(**small))
    with run.inputs():
        joint.load_state_dict(torch.load(run.places["ckpt_path"], weights_only=True))
        listed = json.loads(run.places["dataset_dir"].read_text(encoding="utf-8"))["cases"]
    assert not run.places["ckpt_path"].parent.exists()
    for own, network in ((joint.uniform, branches["attention_us"]), (joint.size_balanced, branches["attention_ss"])):
        assert all(torch.equal(a, b) for a, b in zip(own.parameters(), network.parameters(), strict=True))
    assert [case["case_id"] for case in listed] == ["c004", "c005"]
    assert "patient_id" not in listed[0]


def test_figures_of_a_run_that_failed_at_a_later_scan_are_found(study, results):
    study = replace(study, num_panels=5)
    runs = study.panel_runs(results)
    drawn = runs[1].folder / runs[1].outputs[1]
    drawn.parent.mkdir(parents=True)
    drawn.touch()
    assert study.panels(results) == {"c005": drawn}
