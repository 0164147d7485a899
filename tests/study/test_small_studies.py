"""Whole studies on phantoms with small networks, by the command line."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from custom_components.datasets.slice_labels import write_slice_labels
from custom_components.phantom import write_scan_dataset, write_slice_dataset
from custom_components.study.plans.options import plan_cap_study, plan_seg_study
from custom_components.study.runs.fingerprints import code_state, run_hashes
from custom_components.study.runs.runner import Outcome, Runner

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.cap.conftest import SCAN_SIZE, SPACING_MM
from tests.bundles.cap.conftest import SMALL as SMALL_CAP
from tests.bundles.conftest import ROOT, rows_of
from tests.bundles.seg.conftest import SLICE_SIZE
from tests.bundles.seg.conftest import SMALL as SMALL_SEG

SHORT = {"num_workers": 0, "batch_size": 4, "epochs": 2}
CAP_NUMBERS = {**SMALL_CAP, **SHORT, "learning_rate": 0.005}
SEG_NUMBERS = {**SMALL_SEG, **SHORT, "learning_rate": 0.004, "draws_per_image": 2}


def words_of(bundle: str, data: Path, folder: Path, numbers: dict, *others: str) -> list[str]:
    words = [sys.executable, "-m", "custom_components", "study", bundle, "--dataset_dir", str(data)]
    return [*words, "--output_dir", str(folder), "--overrides", str(numbers), *others]


def begin(words: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)


def conclude(words: list[str], log: Path) -> int:
    study = begin(words, log)
    try:
        return study.wait(timeout=900)
    finally:
        study.terminate()


def reports(folder: Path) -> dict[str, bytes]:
    """Tables and figures of a study, but for times."""
    files = (path for name in ("tables", "figures") for path in (folder / name).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    return write_slice_dataset(tmp_path_factory.mktemp("slices") / "set", 12, SLICE_SIZE, num_patients=6)


def test_a_planned_training_and_its_evaluation_are_executed(slices, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = {"num_folds": 3, "networks": "unet", "overrides": SEG_NUMBERS}
    runs = plan_seg_study(ROOT / "covid_seg_bundle", tmp_path, str(slices), **given).runs()[2:4]
    assert [run.name for run in runs] == [f"group/unet/augmented/fold_1/{what}" for what in ("train", "evaluate")]
    outcome = Runner().execute(runs, run_hashes(runs, code_state()))
    assert outcome.failed == []
    assert {path.name for path in (runs[0].folder / "models").iterdir()} == {"last.pt", "last.json", "split.json"}
    split = json.loads((runs[0].folder / "models/split.json").read_text(encoding="utf-8"))
    scored = [row["case_id"] for row in rows_of(runs[1].folder / "eval/per_case.csv")]
    assert scored == [case["case_id"] for case in split["validation"]]
    assert split["fold"] == 1


def label_slices(folder: Path) -> None:
    """Mark the slices of half of the scans in which the infection is, the lobes by the half of the image."""
    content = json.loads((folder / "datalist.json").read_text(encoding="utf-8"))
    for case in content["cases"][::2]:
        image = nib.as_closest_canonical(nib.load(folder / case["infection"]))  # x to Right, z to Superior
        infection = np.asarray(image.dataobj)[:, :, ::-1] != 0
        left, right = (half.any(axis=(0, 1)) for half in np.array_split(infection, 2))
        labels = np.stack([left | right, left, 0 * left, right, 0 * left, 0 * left], axis=1).astype(np.uint8)
        case["slice_labels"] = f"slice_labels/{case['case_id']}_slices.csv"
        write_slice_labels(labels, len(labels), folder / case["slice_labels"], case["case_id"])
    (folder / "datalist.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def cap(tmp_path_factory) -> SimpleNamespace:
    """A study of all systems on two folds and a test set."""
    root = tmp_path_factory.mktemp("cap")
    data = write_scan_dataset(root / "set", 16, SCAN_SIZE, SPACING_MM, num_folds=2)
    test = write_scan_dataset(root / "test", 6, SCAN_SIZE, SPACING_MM, seed=7, num_folds=2)
    listed = json.loads((test / "datalist.json").read_text(encoding="utf-8"))
    for case in listed["cases"]:
        case["patient_id"] += "_of_the_test_set"
    (test / "datalist.json").write_text(json.dumps(listed), encoding="utf-8")
    label_slices(data)
    words = words_of(
        "covid_cap_bundle", data, root / "study", CAP_NUMBERS, "--test_dir", str(test), "--num_panels", "2"
    )
    log, began = root / "log.txt", time.monotonic()
    assert conclude(words, log) == 0, log.read_text(encoding="utf-8")
    seconds = time.monotonic() - began
    given = {"test_dir": str(test), "overrides": CAP_NUMBERS}
    study = plan_cap_study(ROOT / "covid_cap_bundle", root / "study", str(data), **given)
    return SimpleNamespace(root=root, folder=root / "study", words=words, log=log, seconds=seconds, study=study)


@pytest.mark.slow
def test_a_cap_study_writes_a_report(cap):
    assert (cap.folder / "report.html").stat().st_size > 10_000
    tables = {path.suffix for path in (cap.folder / "tables").iterdir()}
    assert {".md", ".csv", ".tex"} <= tables
    made_with = json.loads((cap.folder / "provenance.json").read_text(encoding="utf-8"))
    assert all(run["seconds"] > 0 for run in made_with["runs"].values())
    assert sum(name.endswith("/train") for name in made_with["runs"]) == 6
    assert sum(name.startswith("panels/") for name in made_with["runs"]) >= 1
    drawn = {path.parent.parent.parent.name for path in cap.folder.rglob("*_attention.png")}
    assert drawn == {"show", "test"}
    assert {path.name for path in (cap.folder / "figures").glob("*.png")} >= {"slices_tv.png", "slice_profiles_tv.png"}
    assert not (cap.folder / "figures" / "slices_test.png").exists()


@pytest.mark.slow
def test_the_mask_finds_the_slices_and_lungs_that_were_marked_from_it(cap):
    table = pd.read_csv(cap.folder / "tables" / "slices_tv.csv").set_index(["labels of", "class", "column"])
    for region in ("Both lungs", "Left lung", "Right lung", "Left lower lobe", "Right lower lobe"):
        row = table.loc[(region, "COVID-19", "Infection mask")]
        assert row["value"] > 0.95
    assert table.loc[("Left upper lobe", "COVID-19", "Infection mask")]["n"] == 0
    assert table.loc[("Both lungs", "COVID-19", "Attention RN34 + SS")]["n"] > 2


@pytest.mark.slow
def test_a_finished_study_only_writes_its_report_again(cap):
    before, began = reports(cap.folder), time.monotonic()
    stamps = {path: path.stat().st_mtime_ns for path in cap.folder.rglob("done.json")}
    assert conclude(cap.words, cap.log) == 0
    assert time.monotonic() - began < 0.7 * cap.seconds
    assert {path: path.stat().st_mtime_ns for path in cap.folder.rglob("done.json")} == stamps
    assert reports(cap.folder) == before


@pytest.mark.slow
def test_only_the_weights_that_are_scored_are_kept(cap):
    weights = sorted(path.relative_to(cap.folder / "runs").as_posix() for path in (cap.folder / "runs").rglob("*.pt"))
    systems = ("attention_ss", "attention_us", "plain_us")
    assert weights == [f"{system}/fold_{fold}/train/models/last.pt" for system in systems for fold in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fold"), [("tv", 0), ("tv", 1), ("test", 1)])
def test_the_ensemble_of_the_tables_equals_the_bundles_ensemble(cap, tmp_path, name, fold):
    study = cap.study
    results = study.collect(Outcome(seconds={run.name: 1.0 for run in study.runs()}))
    found = results.predictions
    own = found[(found["system"] == "Attention RN34 + DS") & (found["set"] == name) & (found["fold"] == fold)]
    rules = results.ensemble
    rule = rules[(rules["set"] == name) & (rules["fold"] == fold)].iloc[0]
    weights = {
        f"{key}_ckpt_path": study.training(system, fold).folder / "models/last.pt"
        for key, system in {"uniform": "attention_us", "size_balanced": "attention_ss"}.items()
    }
    data = study.data if name == "tv" else study.test
    CAP.run(
        ["evaluate.yaml", "ensemble.yaml"], "evaluating", **weights, num_workers=0, cache_dir="",
        dataset_dir=data.root, output_dir=tmp_path / "eval", model_path=tmp_path / "model.pt",
        fold=fold if name == "tv" else None,
        weights=[rule["w_outside"], rule["w_inside"]], ratio_thresholds=[rule["low"], rule["high"]],
    )  # fmt: skip
    expected = {row["case_id"]: float(row["probability"]) for row in rows_of(tmp_path / "eval/per_case.csv")}
    assert own.set_index("case_id")["probability"].to_dict() == pytest.approx(expected, abs=1e-6)
    assert len(expected) == {"tv": 8, "test": 6}[name]


@pytest.mark.slow
def test_attention_is_of_the_model_not_trained_on_the_scan(cap):
    predictions = pd.concat(
        pd.read_csv(path).assign(system=path.parts[-5], fold=path.parts[-4])
        for path in (cap.folder / "runs").glob("*/fold_*/evaluate/eval/per_case.csv")
    ).set_index(["system", "fold", "case_id"])["probability"]
    for path in (cap.folder / "runs/panels").rglob("*_diagnosis.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        for key, system in {"p_us": "attention_us", "p_ss": "attention_ss", "p_plain": "plain_us"}.items():
            expected = predictions[system, path.parts[-5], told["case_id"]]
            assert told[key] == pytest.approx(expected, abs=0.003)  # the cache keeps scans in steps of 1/255


@pytest.mark.slow
def test_a_real_study_killed_at_random_moments_has_the_tables_of_an_uninterrupted_one(slices, tmp_path):
    others = ("--num_folds", "2", "--networks", "unet", "--protocol", "group")
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log.txt"
    assert conclude(words_of("covid_seg_bundle", slices, whole, SEG_NUMBERS, *others), log) == 0
    words, chance, kills = words_of("covid_seg_bundle", slices, killed, SEG_NUMBERS, *others), random.Random(3), 0
    while True:
        study = begin(words, log)
        try:
            status = study.wait(chance.uniform(12, 30) if kills < 4 else 900)
            break
        except subprocess.TimeoutExpired:
            assert not (killed / "report.html").exists()
            study.kill()
            study.wait()
            kills += 1
    assert (status, kills) == (0, 4)
    expected = reports(whole)
    assert len(expected) > 6
    assert reports(killed) == expected
    for path in whole.rglob("last.pt"):
        one, other = (torch.load(root / path.relative_to(whole), weights_only=True) for root in (whole, killed))
        assert all(torch.equal(one[name], other[name]) for name in one)
