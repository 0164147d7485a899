"""CONTRIBUTING.md: its worked example, done as it stands in a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles.conftest import ROOT

EXAMPLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Worked example")[1]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", EXAMPLE, re.S | re.M)
NETWORK, LAW, INDEX_LINES, OVERLAY, PEER, COMMANDS = (text for _, text in BLOCKS)
PHANTOMS, STUDY = COMMANDS.splitlines()


def insert(path: Path, before: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path} has {before!r} {text.count(before)} times"
    path.write_text(text.replace(before, f"{before}{line}\n"), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("custom_components", "covid_seg_bundle"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "custom_components"
    (package / "networks/dilated_net.py").write_text(NETWORK, encoding="utf-8")
    (folder / "covid_seg_bundle/configs/dilated_net.yaml").write_text(OVERLAY, encoding="utf-8")
    (folder / "test_dilated_net.py").write_text(LAW, encoding="utf-8")
    import_line, name_line = INDEX_LINES.splitlines()
    insert(package / "__init__.py", "if TYPE_CHECKING:\n", import_line)
    insert(package / "__init__.py", "__all__ = [\n", name_line)
    insert(package / "study/plans/seg_study.py", "PEERS = {", f"\n{PEER}")
    return folder


def run(copy: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_law_and_the_doctest_of_the_network_hold(copy: Path) -> None:
    files = ["test_dilated_net.py", "custom_components/networks/dilated_net.py"]
    assert "2 passed" in run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", *files)


@pytest.mark.slow
def test_a_study_plans_both_networks(copy: Path, command_line, monkeypatch) -> None:
    monkeypatch.chdir(copy)
    assert command_line(*shlex.split(PHANTOMS)[3:]) == 0
    planned = run(copy, *shlex.split(STUDY)[1:], "--dry_run")
    assert "group/dilated_net/not_augmented/fold_1" in planned
    assert "group/m_a/not_augmented/fold_1" in planned


@pytest.mark.slow
def test_the_study_compares_both_networks(copy: Path) -> None:
    if not (copy / "slices").is_dir():
        run(copy, *shlex.split(PHANTOMS)[1:])
    run(copy, *shlex.split(STUDY.replace("'epochs': 15", "'epochs': 1"))[1:])
    report = (copy / "study/report.html").read_text(encoding="utf-8")
    assert "DilatedNet" in report
    assert "M-A" in report
