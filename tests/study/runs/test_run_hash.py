import os
from dataclasses import replace
from pathlib import Path

import custom_components
import pytest
from custom_components.study.runs.run import EVALUATING, Run
from custom_components.study.runs.run_hash import code_state, run_hashes

from tests.bundles.conftest import ROOT

CODE = {"custom_components": "1.2.3", "sources": "abc"}
TRAINING = Run(
    "a/train", "a train", ROOT / "covid_cap_bundle", "training", ("train.yaml",), Path("/s/a"),
    {"epochs": 3}, {"dataset_dir": Path("/data")}, ("models/last.pt",), data="1234",
)  # fmt: skip
SCORED = replace(TRAINING, name="a/evaluate", verb=EVALUATING, config_files=("evaluate.yaml",), needs=("a/train",))


def hash_of(run: Run, code=CODE) -> str:
    return run_hashes([run], code)[run.name]


@pytest.mark.parametrize(
    "changed",
    [
        {"overrides": {"epochs": 4}},
        {"overrides": {"epochs": 3, "fold": 1}},
        {"config_files": ("train.yaml", "size_balanced.yaml")},
        {"data": "1235"},
        {"verb": "run"},
    ],
    ids=str,
)
def test_what_is_run_is_in_the_hash(changed):
    assert hash_of(replace(TRAINING, **changed)) != hash_of(TRAINING)


@pytest.mark.parametrize(
    "changed",
    [
        {"folder": Path("/moved/a")},
        {"places": {"dataset_dir": Path("/moved/data")}},
        {"outputs": ()},
        {"kind": "other"},
        {"overrides": {"epochs": 3, "batch_size": 20}},  # as the config has it
    ],
    ids=str,
)
def test_where_it_is_and_what_it_is_called_are_not(changed):
    assert hash_of(replace(TRAINING, **changed)) == hash_of(TRAINING)


def test_a_config_file_that_is_edited_changes_the_hash_but_not_a_comment(tmp_path):
    bundle = tmp_path / "covid_cap_bundle"
    (bundle / "configs").mkdir(parents=True)
    text = (TRAINING.bundle / "configs" / "train.yaml").read_text(encoding="utf-8")
    hashes = []
    for number, edited in enumerate((text, f"# a comment\n{text}", text.replace("lr_step: 5", "lr_step: 6"))):
        path = bundle / "configs" / "train.yaml"
        path.write_text(edited, encoding="utf-8")
        os.utime(path, (number, number))
        hashes.append(hash_of(replace(TRAINING, bundle=bundle)))
    assert hashes[0] == hashes[1] == hash_of(TRAINING) != hashes[2]


def test_another_code_changes_the_hash():
    assert hash_of(TRAINING, {**CODE, "sources": "abd"}) != hash_of(TRAINING)


def test_a_run_is_another_when_one_that_it_needs_is():
    first = run_hashes([TRAINING, SCORED], CODE)
    second = run_hashes([replace(TRAINING, overrides={"epochs": 4}), SCORED], CODE)
    assert first["a/evaluate"] != second["a/evaluate"]
    assert run_hashes([SCORED], CODE, {"a/train": first["a/train"]})["a/evaluate"] == first["a/evaluate"]


def test_the_state_of_the_code_is_that_of_what_the_runs_execute(tmp_path, monkeypatch):
    package = tmp_path / "custom_components"
    for name in ("__init__.py", "networks/vbnet.py", "study/table.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(custom_components, "__file__", str(package / "__init__.py"))
    states = [code_state()]
    for name in ("study/table.py", "networks/vbnet.py"):
        (package / name).write_text("x = 2\n", encoding="utf-8")
        states.append(code_state())
    assert states[0] == states[1] != states[2]
    assert set(states[0]) == {"custom_components", "sources", "monai", "torch", "numpy"}
