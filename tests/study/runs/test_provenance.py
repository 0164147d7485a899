import json
import subprocess
from pathlib import Path

import pytest
import torch
from custom_components import __version__
from custom_components.study.plans.cap_study import CapStudy
from custom_components.study.plans.study_data import scan_data
from custom_components.study.runs.fingerprints import code_state, run_hashes
from custom_components.study.runs.provenance import git_state, hardware, provenance
from custom_components.study.runs.runner import Outcome

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans


@pytest.fixture
def made_with(tmp_path):
    """Of a study of which one run failed, in a folder that is named after a person."""
    home = tmp_path / "Doe_Jane"
    data = scan_data(write_scans(home / "scans"))
    numbers = {"epochs": 3, "seed": 5, "cache_dir": str(home / "cache"), "network_def#alpha": 50}
    study = CapStudy(ROOT / "covid_cap_bundle", home / "study", data, overrides=numbers)
    runs = study.runs()
    hashes = run_hashes(runs, code_state())
    outcome = Outcome(seconds={run.name: 10.0 for run in runs[1:]})
    settings = {"bundle": "covid_cap_bundle", "overrides": numbers, "protocol": study.words()}
    return provenance(runs, hashes, outcome, {"folds": data.fingerprint}, settings, code_state())


def test_provenance_is_json_without_paths_and_patients(made_with):
    text = json.dumps(made_with, allow_nan=False)
    assert json.loads(text) == made_with
    assert not [name for name in ("Doe", str(Path.home()), '"p0') if name in text]
    assert made_with["study"]["overrides"]["cache_dir"] == "cache"


def test_versions_code_and_configs_are_recorded(made_with):
    assert made_with["versions"]["custom_components"] == __version__
    assert made_with["versions"]["torch"] == torch.__version__
    assert made_with["code"]["sources_sha256"] == code_state()["sources"]
    names = {"train.yaml", "plain.yaml", "size_balanced.yaml", "last_weights.yaml", "evaluate.yaml"}
    assert set(made_with["configs"]) == names
    assert all(len(own) == 64 for own in made_with["configs"].values())


def test_the_settings_of_each_kind_of_run_are_recorded(made_with):
    numbers = made_with["numbers"]
    assert list(numbers) == [f"{name} {what}" for name in ("plain_us", "attention_us", "attention_ss")
                             for what in ("train", "evaluate")]  # fmt: skip
    assert (numbers["plain_us train"]["attention_weight"], numbers["attention_us train"]["attention_weight"]) == (
        0,
        0.5,
    )
    assert numbers["attention_us train"]["network_def#alpha"] == 50
    assert "epochs" not in numbers["plain_us evaluate"]
    assert made_with["seeds"] == [5]


def test_every_run_has_its_hash_and_time(made_with):
    runs = made_with["runs"]
    assert len(runs) == 18
    assert runs["plain_us/fold_0/train"]["seconds"] is None
    assert runs["plain_us/fold_0/evaluate"]["seconds"] == 10.0
    assert len({run["hash"] for run in runs.values()}) == 18
    assert made_with["seconds"] == 170.0


def test_the_hardware_is_recorded():
    found = hardware()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_a_clone_has_its_commit_and_whether_files_are_modified(tmp_path):
    assert git_state(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.py").write_text("1", encoding="utf-8")
    for words in (["init", "--quiet"], ["add", "a.py"], ["commit", "--quiet", "--message", "a"]):
        subprocess.run([*git, *words], check=True)
    state = git_state(tmp_path)
    assert (len(state["commit"]), state["modified"]) == (40, False)
    (tmp_path / "a.py").write_text("2", encoding="utf-8")
    assert git_state(tmp_path) == {**state, "modified": True}
