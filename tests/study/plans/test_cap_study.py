import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from custom_components.datasets.slice_labels import write_slice_labels
from custom_components.handlers.slice_table import AREAS, SLICE
from custom_components.networks.dual_sampling import DualSamplingNet
from custom_components.study.plans.cap_study import NESTED, CapStudy
from custom_components.study.plans.study_data import scan_data
from custom_components.study.results.study_results import PAPER, TEST, TV, FailedRun
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import check_plan
from custom_components.study.runs.runner import Outcome

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

BUNDLE = ROOT / "covid_cap_bundle"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scan_data(write_scans(tmp_path_factory.mktemp("scans"), site="A"))


@pytest.fixture(scope="module")
def test_data(tmp_path_factory):
    return scan_data(write_scans(tmp_path_factory.mktemp("test"), folds=1, prefix="t", site="B"))


@pytest.fixture
def study(data, test_data, tmp_path):
    def make(**changes) -> CapStudy:
        given = {"test": test_data, "overrides": {"epochs": 3, "grid": [8, 20, 16], "attention_weight": 0.3}, **changes}
        return CapStudy(BUNDLE, tmp_path / "study", data, **given)

    return make


def by_name(study) -> dict:
    return {run.name: run for run in study.runs()}


def test_each_system_is_trained_and_scored_on_each_fold_and_on_the_test_set(study):
    runs = study().runs()
    check_plan(runs)
    expected = [
        f"{system}/fold_{fold}/{what}"
        for system in ("plain_us", "attention_us", "attention_ss")
        for fold in (0, 1, 2)
        for what in ("train", "evaluate", "test")
    ]
    assert [run.name for run in runs] == expected
    assert Counter(run.kind for run in runs)["attention_ss train"] == 3
    alone = study(test=None, systems=("attention_us",)).runs()
    assert [run.name for run in alone] == [name for name in expected if "attention_us" in name and "test" not in name]


@pytest.mark.parametrize(
    ("system", "overlays", "weight", "sampler"),
    [
        ("plain_us", ("networks/plain.yaml",), 0, "torch.utils.data.DistributedSampler"),
        ("attention_us", (), 0.3, "torch.utils.data.DistributedSampler"),
        ("attention_ss", ("recipes/size_balanced.yaml",), 0.3, "custom_components.SizeBalancedSampler"),
    ],
)
def test_a_system_is_trained_with_its_overlay(study, system, overlays, weight, sampler):
    run = by_name(study())[f"{system}/fold_1/train"]
    assert run.config_files == ("train.yaml", *overlays, "recipes/last_weights.yaml")
    content = config_content(run.config_paths, run.overrides)
    assert (content["attention_weight"], content["train"]["sampler"]["_target_"]) == (weight, sampler)
    assert (content["fold"], content["epochs"], content["grid"]) == (1, 3, [8, 20, 16])


def test_a_model_is_scored_on_its_validation_fold_with_the_settings_of_its_training(study, data):
    planned = study()
    runs = by_name(planned)
    training, scored = runs["attention_us/fold_2/train"], runs["attention_us/fold_2/evaluate"]
    assert scored.needs == (training.name,)
    assert scored.places["ckpt_path"] == training.folder / "models/last.pt"
    assert scored.places["dataset_dir"] == data.root
    assert scored.overrides == {"fold": 2, "grid": [8, 20, 16]}
    assert runs["attention_us/fold_2/test"].overrides == {"grid": [8, 20, 16]}
    assert runs["attention_us/fold_2/test"].places["dataset_dir"] == planned.test.root
    assert runs["attention_us/fold_2/test"].data != scored.data


def test_all_runs_share_a_cache_whose_location_can_be_set(study):
    assert {run.places["cache_dir"] for run in study().runs()} == {study().folder / "cache"}
    assert {run.places["cache_dir"] for run in study(overrides={"cache_dir": "/fast"}).runs()} == {"/fast"}


def test_by_default_nothing_is_selected_on_the_reported_fold(study):
    planned = study(protocol=NESTED)
    run = by_name(planned)["plain_us/fold_0/train"]
    assert run.outputs[0] == "models/last.pt"
    assert "models/model.pt" in run.disposable
    assert "Each model is the last epoch" in planned.words()[planned.protocol]
    assert "searched on the predictions of the other folds" in planned.words()[planned.protocol]


def test_the_papers_protocol_keeps_the_best_epoch_and_says_so(study):
    planned = study(protocol=PAPER)
    runs = by_name(planned)
    run = runs["plain_us/fold_0/train"]
    assert run.config_files == ("train.yaml", "networks/plain.yaml")
    assert (run.outputs[0], run.disposable) == ("models/model.pt", ("models/resume_checkpoint_epoch=*.pt",))
    assert runs["plain_us/fold_0/evaluate"].places["ckpt_path"] == run.folder / "models/model.pt"
    assert "these scores are optimistic" in planned.words()[planned.protocol]


def test_a_test_set_that_shares_patients_is_refused_without_naming_them(study, tmp_path):
    folder = write_scans(tmp_path / "other", folds=1)
    with pytest.raises(
        ValueError, match=r"^2 patients of the test set are also in the folds; .*: c000, c001"
    ) as caught:
        study(test=scan_data(folder))
    assert "p0" not in str(caught.value)


def test_a_fold_of_one_class_is_refused_before_anything_is_trained(study, tmp_path):
    folder = write_scans(tmp_path / "one_class")
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    for case in content["cases"][:4]:
        case["label"] = "cap"
    (folder / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="Fold 0 validates 0 COVID-19 and 4 CAP scans"):
        CapStudy(BUNDLE, tmp_path, scan_data(folder))


def test_additional_columns_are_kept_unless_they_identify_a_person(tmp_path):
    columns = {"site": "A", "age": 61, "PatientName": "Doe^Jane", "patient_name": "Doe", "Birth Date": "1950", "MRN": 7}
    data = scan_data(write_scans(tmp_path, **columns))
    assert data.further == [{"site": "A", "age": 61}] * 12
    assert isinstance(data.root, Path)


def write_table(run, scans, seed: int) -> None:
    """A per_case.csv as ClassificationScoreTable writes it; the last scan has no probability."""
    table = pd.DataFrame(scans)[["case_id", "fold", "ratio"]].assign(label="covid", prediction="", correct="")
    chance = np.random.default_rng(seed).random((2, len(table)))
    is_last = table.index == len(table) - 1
    dice = np.where(is_last | [scan["label"] == 0 for scan in scans], np.nan, chance[1])
    path = run.folder / "eval/per_case.csv"
    path.parent.mkdir(parents=True)
    table.assign(probability=np.where(is_last, np.nan, chance[0]), attention_dice=dice).to_csv(path, index=False)


@pytest.fixture
def scored(study):
    return study()


@pytest.fixture
def outcome(scored):
    """All runs are finished but one training, and with it what is scored with it."""
    made = Outcome()
    for number, run in enumerate(scored.runs()):
        if run.name.startswith("attention_ss/fold_1"):
            made.failed.append(FailedRun(run.name, "reason"))
            continue
        made.seconds[run.name] = 1.0
        if run.name.endswith("evaluate"):
            fold = run.overrides["fold"]
            write_table(run, [scan for scan in scored.data.cases if scan["fold"] == fold], number)
        elif run.name.endswith(TEST):
            write_table(run, scored.test.cases, number)
    return made


@pytest.fixture
def results(scored, outcome):
    return scored.collect(outcome)


def test_every_scan_is_listed_once(results):
    assert list(results.cases.columns) == ["set", "case_id", "patient_id", "label", "ratio", "fold", "site"]
    assert results.cases.groupby("set").size().to_dict() == {TV: 12, TEST: 4}
    assert results.cases.groupby("set")["site"].unique().map(list).to_dict() == {TV: ["A"], TEST: ["B"]}
    assert set(results.cases.loc[results.cases["set"] == TEST, "fold"]) == {-1}
    assert results.cases["case_id"].str.startswith("c0").sum() == 12


@pytest.mark.parametrize(("system", "name"), [("RN34 + US", "plain_us"), ("Attention RN34 + US", "attention_us")])
def test_predictions_are_read_from_the_tables_of_the_evaluations(results, scored, system, name):
    found, columns = results.predictions, ["case_id", "probability", "attention_dice"]
    table = pd.read_csv(scored.folder / f"runs/{name}/fold_2/test/eval/per_case.csv")
    own = found[(found["system"] == system) & (found["set"] == TEST) & (found["fold"] == 2)]
    pd.testing.assert_frame_equal(own[columns].reset_index(drop=True), table[columns], check_dtype=False)


def test_a_scan_is_scored_by_one_model_in_the_folds_and_by_all_in_the_test_set(results):
    branch = results.predictions[results.predictions["system"] == "Attention RN34 + US"]
    models = branch.groupby(["set", "case_id"]).size().groupby("set").unique().map(list).to_dict()
    assert models == {TV: [1], TEST: [3]}


def test_a_failed_run_has_no_rows_and_its_fold_has_no_ensemble(results):
    folds = results.predictions.groupby(["system", "set"])["fold"].unique().map(sorted).to_dict()
    assert folds["Attention RN34 + US", TV] == [0, 1, 2]
    for name in (TV, TEST):
        assert folds["Attention RN34 + SS", name] == folds["Attention RN34 + DS", name] == [0, 2]
    assert results.failed[0].name == "attention_ss/fold_1/train"
    assert len(results.failed) == 3


def test_the_ensemble_combines_both_branches_as_the_network_does(results):
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


def test_systems_are_titled_in_the_order_of_table_2(results, scored, outcome):
    ensembles = ("Attention RN34 + DS, w of the paper", "Attention RN34 + DS")
    assert results.systems == ("RN34 + US", "Attention RN34 + US", "Attention RN34 + SS", *ensembles)
    assert len(results.pairs) == 6
    assert not any(ensembles[0] in pair for pair in results.pairs)
    alone = replace(scored, systems=("attention_us",), test=None).collect(outcome)
    assert alone.systems == ("Attention RN34 + US",)
    assert set(alone.predictions["system"]) == set(alone.systems)
    assert alone.ensemble.empty


@pytest.fixture
def labelled(tmp_path):
    """Two scans of the folds have slice labels, one of them with the wrong number of slices."""
    folder = write_scans(tmp_path / "labelled")
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    for number, slices in ((1, 2), (6, 3)):
        name = f"slice_labels/c{number:03d}_slices.csv"
        (folder / "slice_labels").mkdir(exist_ok=True)
        write_slice_labels(np.eye(slices, 6, dtype=np.uint8), slices, folder / name, "c")
        content["cases"][number]["slice_labels"] = name
    (folder / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_only_evaluations_of_a_set_with_slice_labels_write_slices(study, labelled, tmp_path):
    runs = {run.name: run for run in replace(study(), data=scan_data(labelled)).runs()}
    own = runs["attention_us/fold_1/evaluate"]
    assert (own.overrides["slice_table"], own.outputs[-1]) == (True, "eval/slices.csv")
    assert config_content(own.config_paths, own.overrides)["slice_table"] is True
    for name in ("attention_us/fold_1/test", "attention_us/fold_1/train"):
        assert "slice_table" not in runs[name].overrides
    assert not any("slice_table" in run.overrides for run in study().runs())


def test_slice_labels_are_no_column_of_the_tables_and_do_not_change_the_data(data, labelled):
    found = scan_data(labelled)
    assert found.further == [{}] * 12
    assert {name: labels.tolist() for name, labels in found.slice_labels.items()} == {
        "c001": np.eye(2, 6).tolist(), "c006": np.eye(3, 6).tolist()
    }  # fmt: skip
    assert data.slice_labels == {}
    assert found.fingerprint.sha256 == data.fingerprint.sha256


def test_slices_of_labelled_scans_are_collected_from_each_evaluation(study, labelled):
    planned = replace(study(), data=scan_data(labelled), test=None)
    made = Outcome(seconds={run.name: 1.0 for run in planned.runs()})
    for run in planned.runs():
        if run.name.endswith("evaluate"):
            fold = run.overrides["fold"]
            scans = [scan for scan in planned.data.cases if scan["fold"] == fold]
            write_table(run, scans, fold)
            rows = [{"case_id": s["case_id"], SLICE: k, **dict.fromkeys(AREAS, 1.0)} for s in scans for k in range(2)]
            pd.DataFrame(rows).to_csv(run.folder / "eval/slices.csv", index=False)
    slices = planned.collect(made).slices
    assert slices[["set", "fold", "case_id", SLICE, "infected", "lobe_1"]].drop_duplicates().values.tolist() == [
        [TV, 0, "c001", 0, 1, 0], [TV, 0, "c001", 1, 0, 1]
    ]  # fmt: skip
    assert list(slices["system"].unique()) == ["RN34 + US", "Attention RN34 + US", "Attention RN34 + SS"]
    assert len(slices) == 6


def test_a_table_of_labels_that_cannot_be_read_is_refused_before_anything_is_trained(labelled):
    (labelled / "slice_labels/c006_slices.csv").write_text("slice_index_sorted_by_SliceLocation,infected\n0,7\n")
    with pytest.raises(ValueError, match=r"Case c006: slice_labels .* other values .* remove slice_labels from"):
        scan_data(labelled)
    (labelled / "slice_labels/c006_slices.csv").unlink()
    with pytest.raises(ValueError, match=r"Case c006: slice_labels .* cannot be read"):
        scan_data(labelled)


def test_a_study_without_finished_runs_has_empty_results(scored):
    nothing = scored.collect(Outcome(failed=[FailedRun("attention_us/fold_0/train", "reason")]))
    assert (len(nothing.predictions), len(nothing.ensemble), len(nothing.cases)) == (0, 0, 16)
    assert nothing.predictions["probability"].dtype == float
