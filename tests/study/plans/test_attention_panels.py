import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from custom_components.networks.attention_resnet import AttentionResNet
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.study.plans.cap_study import ENSEMBLE_TITLE, CapStudy
from custom_components.study.plans.study_data import scan_data
from custom_components.study.results.study_results import TV, AttentionPanel, ClassificationResults
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import check_plan

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

SMALL = {"layers": [1, 1, 1, 1], "block_inplanes": [2, 3, 4, 5], "network_def#alpha": 50, "epochs": 3}


def results_of(study, probabilities) -> ClassificationResults:
    """Results of a study whose systems all give these probabilities, by case id; each fold has a rule."""
    rule = {"w_outside": 0.25, "w_inside": 0.75, "low": 0.002, "high": 0.04, "auc": 0.9}
    rows = []
    for name, data in study.sets.items():
        for scan in data.cases:
            for fold in [scan["fold"]] if name == TV else study.folds:
                own = {"set": name, "fold": fold, "case_id": scan["case_id"]}
                rows.append({**own, "probability": probabilities[scan["case_id"]], "attention_dice": 0.0})
    titles = ("RN34 + US", ENSEMBLE_TITLE)
    rules = pd.DataFrame([{"set": name, "fold": fold, **rule} for name in study.sets for fold in study.folds])
    keys = ("case_id", "patient_id", "label", "ratio", "fold")
    cases = [{"set": name, **{k: scan[k] for k in keys}} for name, data in study.sets.items() for scan in data.cases]
    predictions = pd.concat([pd.DataFrame(rows).assign(system=title) for title in titles])
    return ClassificationResults({"nested": "words"}, pd.DataFrame(cases), predictions, titles, rules, ())


@pytest.fixture
def study(tmp_path):
    return CapStudy(
        ROOT / "covid_cap_bundle", tmp_path / "study", scan_data(write_scans(tmp_path / "scans")), overrides=SMALL
    )


def sets_of(study) -> list[dict]:
    return [scan for data in study.sets.values() for scan in data.cases]


@pytest.fixture
def results(study):
    """COVID-19 scans are right in the folds 0 and 2 and wrong in 1."""
    wrong = {s["case_id"] for s in study.data.cases if s["fold"] == 1}
    chance = {s["case_id"]: 0.1 if s["case_id"] in wrong or not s["label"] else 0.9 for s in sets_of(study)}
    return results_of(study, chance)


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


def test_scans_of_the_test_set_are_shown_by_the_models_of_one_fold(study, tmp_path):
    test = scan_data(write_scans(tmp_path / "test", folds=1, prefix="t"))
    study = replace(study, test=test, num_panels=2)
    results = results_of(study, {scan["case_id"]: 0.9 for scan in sets_of(study)})
    runs = study.panel_runs(results)
    check_plan(runs, [run.name for run in study.runs()])
    assert runs[-1].name == "panels/fold_0/test"
    assert runs[-1].outputs == ("eval/t000/t000_attention.png", "eval/t002/t002_attention.png")
    assert runs[-1].needs == tuple(f"{name}/fold_0/train" for name in ("attention_us", "attention_ss", "plain_us"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.study.plans.attention_panels.read_state_dict", lambda path: {})
        with runs[-1].inputs():
            listed = json.loads(runs[-1].places["dataset_dir"].read_text(encoding="utf-8"))["cases"]
    assert [case["case_id"] for case in listed] == ["ct000", "ct002"]
    assert listed[0]["image"] == test.cases[0]["image"]


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
    assert study.panels(results) == (AttentionPanel(TV, 1, "c005", wrong=results.systems, path=drawn),)
