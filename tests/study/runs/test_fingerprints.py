import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import custom_components
import pytest
from custom_components.study.runs.fingerprints import code_state, fingerprint, run_hashes
from custom_components.study.runs.run import EVALUATING, Run

from tests.bundles.conftest import ROOT

KEYS = ("image", "label")
CODE = {"custom_components": "1.2.3", "sources": "abc"}
TRAINING = Run(
    "a/train", "a train", ROOT / "covid_cap_bundle", "training", ("train.yaml",), Path("/s/a"),
    {"epochs": 3}, {"dataset_dir": Path("/data")}, ("models/last.pt",), data="1234",
)  # fmt: skip
SCORED = replace(TRAINING, name="a/evaluate", verb=EVALUATING, config_files=("evaluate.yaml",), needs=("a/train",))


def hash_of(run: Run, code=CODE) -> str:
    return run_hashes([run], code)[run.name]


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"overrides": {"epochs": 4}}, False),
        ({"overrides": {"epochs": 3, "fold": 1}}, False),
        ({"config_files": ("train.yaml", "size_balanced.yaml")}, False),
        ({"data": "1235"}, False),
        ({"verb": "run"}, False),
        ({"folder": Path("/moved/a")}, True),
        ({"places": {"dataset_dir": Path("/moved/data")}}, True),
        ({"outputs": ()}, True),
        ({"kind": "other"}, True),
        ({"overrides": {"epochs": 3, "batch_size": 20}}, True),  # as the config has it
    ],
    ids=str,
)
def test_settings_and_data_are_in_the_hash_and_locations_and_names_are_not(changed, same):
    assert (hash_of(replace(TRAINING, **changed)) == hash_of(TRAINING)) == same
    assert hash_of(TRAINING, {**CODE, "sources": "abd"}) != hash_of(TRAINING)


def test_an_edited_config_changes_the_hash_unless_only_a_comment_changed(tmp_path):
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


def test_the_hash_depends_on_the_runs_that_it_needs():
    first = run_hashes([TRAINING, SCORED], CODE)
    second = run_hashes([replace(TRAINING, overrides={"epochs": 4}), SCORED], CODE)
    assert first["a/evaluate"] != second["a/evaluate"]
    assert run_hashes([SCORED], CODE, {"a/train": first["a/train"]})["a/evaluate"] == first["a/evaluate"]


def test_the_state_of_the_code_covers_what_the_runs_execute(tmp_path, monkeypatch):
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


@pytest.fixture
def cases(tmp_path):
    """A case of two files, and one whose image is a folder of files."""
    root = tmp_path / "Doe^Jane"
    (root / "series").mkdir(parents=True)
    for name, text in {"1.png": "one", "m1.png": "mask", "m2.png": "mask 2", "series/a": "x", "series/b": "y"}.items():
        (root / name).write_text(text, encoding="utf-8")
    return [
        {"case_id": "1", "image": str(root / "1.png"), "label": str(root / "m1.png"), "group": "p"},
        {"case_id": "2", "image": str(root / "series"), "label": str(root / "m2.png"), "group": ""},
    ]


def test_a_copy_elsewhere_has_the_same_fingerprint(cases, tmp_path):
    old, new = Path(cases[0]["image"]).parent, tmp_path / "elsewhere"
    shutil.copytree(old, new)
    moved = [{**case, **{key: case[key].replace(str(old), str(new)) for key in KEYS}} for case in cases]
    found = fingerprint(moved, KEYS)
    assert found == fingerprint(cases, KEYS)
    assert (found.cases, found.files, found.size_bytes) == (2, 5, 15)


@pytest.mark.parametrize("change", ["file", "slice", "column", "order"])
def test_different_content_has_a_different_fingerprint(cases, change):
    before = fingerprint(cases, KEYS).sha256
    folder = Path(cases[0]["image"]).parent
    if change in ("file", "slice"):
        (folder / {"file": "m1.png", "slice": "series/b"}[change]).write_text("z", encoding="utf-8")
    elif change == "column":
        cases[0]["group"] = "q"
    else:
        cases.reverse()
    assert fingerprint(cases, KEYS).sha256 != before


def test_files_are_read_once_and_their_names_are_not_kept(cases, tmp_path, monkeypatch):
    known = tmp_path / "known.json"
    first = fingerprint(cases, KEYS, known)
    text = known.read_text(encoding="utf-8")
    assert len(json.loads(text)) == 5
    assert not [name for name in ("Doe", "png") if name in text]

    def refuse(file):
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr("custom_components.study.runs.fingerprints.file_digest", refuse)
    assert fingerprint(cases, KEYS, known) == first
    os.utime(cases[0]["image"], (1, 1))
    with pytest.raises(AssertionError, match=r"1\.png was read"):
        fingerprint(cases, KEYS, known)
