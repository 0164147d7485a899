"""Whole federations in NVFlare's simulator: sites and servers that fail. Each takes minutes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from custom_components.weights.model_card import read_card
from PIL import Image

from tests.federated.conftest import SEG, TINY_SEG

pytest.importorskip("nvflare", reason='needs nvflare: pip install "custom_components[federated]"')
psutil = pytest.importorskip("psutil", reason="comes with nvflare")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def command(folder: Path, sites: dict[str, Path], *options: str) -> list[str]:
    words = [sys.executable, "-m", "custom_components", "federated", SEG, str(folder)]
    named = {name: str(data) for name, data in sites.items()}
    return [*words, "--sites", str(named), "--overrides", str(TINY_SEG), *options]


def wait_for(condition, seconds=400):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.3)
    return found


def rounds(folder: Path) -> list[dict]:
    path = folder / "rounds.json"
    return json.loads(path.read_text(encoding="utf-8"))["rounds"] if path.is_file() else []


def process_of(word: str, folder: Path):
    """The process of a run in this folder whose command has a word."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if word in words and any(str(folder) in one for one in words):
            return process
    return None


def test_sites_that_fail_are_named_and_the_others_go_on(slices, tmp_path):
    """The labels of one site are wrong; another is killed within its first round and never comes back."""
    broken = shutil.copytree(slices["north"], tmp_path / "broken")
    for mask in sorted((broken / "masks").glob("*.png")):
        Image.fromarray(np.full((32, 32), 77, np.uint8)).save(mask)
    killed = shutil.copytree(slices["south"], tmp_path / "killed")
    sites = {"north": slices["north"], "south": slices["south"], "broken": broken, "killed": killed}
    folder, models = tmp_path / "out", sorted((ROOT / SEG / "models").iterdir())
    words = command(folder, sites, "--rounds", "2", "--min_sites", "2", "--wait_s", "15")
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        wait_for(lambda: (folder / "sites/killed/training/split.json").is_file() or run.poll() is not None)
        process_of("killed", folder).kill()
        assert run.wait(600) == 0, (tmp_path / "log").read_text(encoding="utf-8")[-3000:]
    found = rounds(folder)
    assert len(found) == 2
    assert {"north", "south"} <= set(found[0]["sites"])
    assert found[1]["sites"] == ["north", "south"]
    assert found[0]["left_out"]["broken"] == "it failed; the log of that site has the reason"
    assert found[1]["left_out"]["killed"] == "no answer"
    table = (folder / "sites.md").read_text(encoding="utf-8")
    assert "| north" in table
    assert "| broken" not in table
    assert read_card(folder / "model.pt")["trained_on"]["cases"] == 6 + 8  # of the two that took part
    assert sorted((ROOT / SEG / "models").iterdir()) == models


def test_a_killed_server_resumes_after_the_last_complete_round(slices, tmp_path):
    folder = tmp_path / "out"
    words = command(folder, slices, "--rounds", "4")
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        wait_for(lambda: len(rounds(folder)) >= 1 or run.poll() is not None)
        family = psutil.Process(run.pid).children(recursive=True)
        for process in family:
            process.kill()
        os.kill(run.pid, signal.SIGKILL)
        run.wait(60)
        before = rounds(folder)
        assert 1 <= len(before) < 4
        subprocess.run(words, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, check=True, timeout=600)
    after = rounds(folder)
    assert after[: len(before)] == before
    assert len(after) == 4
    assert f"Resuming after round {len(before)}." in (tmp_path / "log").read_text(encoding="utf-8")
    assert read_card(folder / "model.pt")["score"]["name"] == "val_mean_dice"
