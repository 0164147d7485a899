import json
from collections import Counter
from pathlib import Path

import pytest
from custom_components.study.plans.cap_plan import NESTED, PAPER, SYSTEMS, CapStudy
from custom_components.study.plans.study_data import scan_data
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import check_plan

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans

BUNDLE = ROOT / "covid_cap_bundle"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return scan_data(write_scans(tmp_path_factory.mktemp("scans")), None)


@pytest.fixture(scope="module")
def test_data(tmp_path_factory):
    return scan_data(write_scans(tmp_path_factory.mktemp("test"), folds=1, prefix="t"), None)


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


def test_without_a_test_set_there_is_none_to_score(study):
    names = list(by_name(study(test=None, systems=("attention_us",))))
    assert names == [f"attention_us/fold_{fold}/{what}" for fold in (0, 1, 2) for what in ("train", "evaluate")]


@pytest.mark.parametrize(
    ("system", "overlays", "weight", "sampler"),
    [
        ("plain_us", ("plain.yaml",), 0, "torch.utils.data.DistributedSampler"),
        ("attention_us", (), 0.3, "torch.utils.data.DistributedSampler"),
        ("attention_ss", ("size_balanced.yaml",), 0.3, "custom_components.SizeBalancedSampler"),
    ],
)
def test_a_system_is_trained_with_its_overlay(study, system, overlays, weight, sampler):
    run = by_name(study())[f"{system}/fold_1/train"]
    assert run.config_files == ("train.yaml", *overlays, "last_weights.yaml")
    content = config_content(run.config_paths, run.overrides)
    assert (content["attention_weight"], content["train"]["sampler"]["_target_"]) == (weight, sampler)
    assert (content["fold"], content["epochs"], content["grid"]) == (1, 3, [8, 20, 16])


def test_a_model_is_scored_on_the_fold_that_it_left_out_with_its_own_numbers(study, data):
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


def test_all_runs_share_a_cache_which_may_lie_elsewhere(study):
    assert {run.places["cache_dir"] for run in study().runs()} == {study().folder / "cache"}
    assert {run.places["cache_dir"] for run in study(overrides={"cache_dir": "/fast"}).runs()} == {"/fast"}


def test_by_default_nothing_is_chosen_on_the_fold_that_is_reported(study):
    planned = study(protocol=NESTED)
    run = by_name(planned)["plain_us/fold_0/train"]
    assert run.outputs[0] == "models/last.pt"
    assert "models/model.pt" in run.disposable
    assert "A model is that of its last epoch" in planned.words()
    assert "searched on the predictions of the other folds" in planned.words()


def test_the_papers_protocol_keeps_the_best_epoch_and_says_so(study):
    planned = study(protocol=PAPER)
    runs = by_name(planned)
    run = runs["plain_us/fold_0/train"]
    assert run.config_files == ("train.yaml", "plain.yaml")
    assert (run.outputs[0], run.disposable) == ("models/model.pt", ("models/resume_checkpoint_epoch=*.pt",))
    assert runs["plain_us/fold_0/evaluate"].places["ckpt_path"] == run.folder / "models/model.pt"
    assert "these scores are optimistic" in planned.words()


def test_a_test_set_that_shares_patients_is_refused_without_naming_them(study, tmp_path):
    folder = write_scans(tmp_path / "other", folds=1)
    with pytest.raises(ValueError, match=r"^2 patients of the test set are in the folds too; .*: c000, c001") as caught:
        study(test=scan_data(folder, None))
    assert "p0" not in str(caught.value)


def test_a_fold_of_one_class_is_refused_before_anything_is_trained(study, tmp_path):
    folder = write_scans(tmp_path / "one_class")
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    for case in content["cases"][:4]:
        case["label"] = "cap"
    (folder / "datalist.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="Fold 0 validates 0 COVID-19 and 4 CAP scans"):
        CapStudy(BUNDLE, tmp_path, scan_data(folder, None))


def test_titles_and_overlays_are_those_of_table_2():
    assert [title for title, _ in SYSTEMS.values()] == ["RN34 + US", "Attention RN34 + US", "Attention RN34 + SS"]
    for _, overlays in SYSTEMS.values():
        assert all((BUNDLE / "configs" / name).is_file() for name in overlays)


def test_further_columns_are_kept_but_for_those_that_name_a_person(tmp_path):
    columns = {"site": "A", "age": 61, "PatientName": "Doe^Jane", "patient_name": "Doe", "Birth Date": "1950", "MRN": 7}
    data = scan_data(write_scans(tmp_path, **columns), None)
    assert data.further == [{"site": "A", "age": 61}] * 12
    assert isinstance(data.root, Path)
