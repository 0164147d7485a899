import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.study.plans.cap_plan import CapStudy
from custom_components.study.plans.collect_cap import collect_cap
from custom_components.study.plans.study_data import scan_data
from custom_components.study.results.study_results import TEST, TV, FailedRun
from custom_components.study.runs.runner import Outcome

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

COLUMNS = ("case_id", "fold", "label", "ratio", "probability", "prediction", "correct", "attention_dice")


def write_table(run, scans, seed: int) -> None:
    """A per_case.csv as ClassificationScoreTable writes it; the last scan has no probability."""
    chance = np.random.default_rng(seed)
    path = run.folder / "eval/per_case.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for number, scan in enumerate(scans):
            row = {"case_id": scan["case_id"], "fold": scan["fold"], "label": "covid", "ratio": scan["ratio"]}
            known = {"probability": chance.random(), "attention_dice": chance.random() if scan["label"] else ""}
            table.writerow(row if number == len(scans) - 1 else {**row, **known})


@pytest.fixture
def study(tmp_path):
    data = scan_data(write_scans(tmp_path / "scans", site="A"), None)
    test = scan_data(write_scans(tmp_path / "test", folds=1, prefix="t", site="B"), None)
    return CapStudy(ROOT / "covid_cap_bundle", tmp_path / "study", data, test)


@pytest.fixture
def outcome(study):
    """All runs are finished but one training, and with it what is scored with it."""
    made = Outcome()
    for number, run in enumerate(study.runs()):
        if run.name.startswith("attention_ss/fold_1"):
            made.failed.append(FailedRun(run.name, "reason"))
            continue
        made.seconds[run.name] = 1.0
        if run.name.endswith("evaluate"):
            fold = run.overrides["fold"]
            write_table(run, [scan for scan in study.data.cases if scan["fold"] == fold], number)
        elif run.name.endswith(TEST):
            write_table(run, study.test.cases, number)
    return made


@pytest.fixture
def results(study, outcome):
    return collect_cap(study, outcome)


def test_every_scan_is_a_case_once(results):
    assert list(results.cases.columns) == ["set", "case_id", "patient_id", "label", "ratio", "fold", "site"]
    assert results.cases.groupby("set").size().to_dict() == {TV: 12, TEST: 4}
    assert results.cases.groupby("set")["site"].unique().map(list).to_dict() == {TV: ["A"], TEST: ["B"]}
    assert set(results.cases.loc[results.cases["set"] == TEST, "fold"]) == {-1}
    assert results.cases["case_id"].str.startswith("c0").sum() == 12


def test_every_prediction_is_that_of_the_table(results, study):
    found = results.predictions
    for system, name in (("RN34 + US", "plain_us"), ("Attention RN34 + US", "attention_us")):
        path = study.folder / f"runs/{name}/fold_2/test/eval/per_case.csv"
        rows = {row["case_id"]: row for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())}
        own = found[(found["system"] == system) & (found["set"] == TEST) & (found["fold"] == 2)].set_index("case_id")
        assert list(own.index) == list(rows)
        for case_id, row in rows.items():
            for column in ("probability", "attention_dice"):
                expected = float(row[column]) if row[column] else np.nan
                assert own.loc[case_id, column] == pytest.approx(expected, nan_ok=True)


def test_a_scan_has_one_model_in_the_folds_and_all_in_the_test_set(results):
    branch = results.predictions[results.predictions["system"] == "Attention RN34 + US"]
    models = branch.groupby(["set", "case_id"]).size().groupby("set").unique().map(list).to_dict()
    assert models == {TV: [1], TEST: [3]}


def test_a_run_that_failed_has_no_rows_and_the_ensemble_of_its_fold_neither(results):
    folds = results.predictions.groupby(["system", "set"])["fold"].unique().map(sorted).to_dict()
    assert folds["Attention RN34 + US", TV] == [0, 1, 2]
    for name in (TV, TEST):
        assert folds["Attention RN34 + SS", name] == folds["Attention RN34 + DS", name] == [0, 2]
    assert results.failed[0].name == "attention_ss/fold_1/train"
    assert len(results.failed) == 3


def test_the_ensemble_is_the_networks_own_rule_on_both_branches(results):
    keys = ["set", "fold", "case_id"]
    wide = results.predictions.pivot_table(index=keys, columns="system", values="probability", dropna=False)
    ratios = results.cases.set_index(["set", "case_id"])["ratio"]
    for _, rule in results.ensemble.iterrows():
        rows = wide.xs((rule["set"], rule["fold"]), level=("set", "fold")).dropna()
        net = DualSamplingNet(
            torch.nn.Identity(), torch.nn.Identity(),
            (rule["w_outside"], rule["w_inside"]), (rule["low"], rule["high"]),
        )  # fmt: skip
        us, ss = (torch.tensor(rows[f"Attention RN34 + {name}"].to_numpy()).logit()[:, None] for name in ("US", "SS"))
        known = torch.tensor([ratios[rule["set"], case] for case in rows.index])
        expected = net.combine(us, ss, known).sigmoid()[:, 0].tolist()
        assert rows["Attention RN34 + DS"].tolist() == pytest.approx(expected, abs=1e-6)
    assert len(results.ensemble) == 4


def test_systems_are_titled_in_the_order_of_table_2(results, study, outcome):
    assert results.systems == ("RN34 + US", "Attention RN34 + US", "Attention RN34 + SS", "Attention RN34 + DS")
    alone = collect_cap(replace(study, systems=("attention_us",), test=None), outcome)
    assert alone.systems == ("Attention RN34 + US",)
    assert set(alone.predictions["system"]) == set(alone.systems)
    assert alone.ensemble.empty


def test_a_study_of_which_nothing_is_finished_has_results_without_rows(study):
    nothing = collect_cap(study, Outcome(failed=[FailedRun("attention_us/fold_0/train", "reason")]))
    assert (len(nothing.predictions), len(nothing.ensemble), len(nothing.cases)) == (0, 0, 16)
    assert nothing.predictions["probability"].dtype == float
