"""The paper's study at its size: scans and patients as in its tables, planned as docs/study.md says."""

import json
import re
import runpy
import shlex
import subprocess
import sys
import time
from collections import Counter

import pytest
from custom_components.__main__ import main
from custom_components.data.size_balanced_sampler import SizeBalancedSampler
from custom_components.datalists.scans import class_label
from custom_components.study.runs.run_times import in_words

from tests.bundles.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "paper_scale.py"))
PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("python ") and "/path/to/paper" in line]
MOST_CPU_S = 120.0  # measured: 58 s on a busy machine


def test_scans_and_patients_are_those_of_table_i():
    cases = {name: list(SCRIPT["entries"](name)) for name in SCRIPT["SETS"]}
    counts = {name: Counter(case["label"] for case in own) for name, own in cases.items()}
    assert counts == {"train": {"covid": 1094, "cap": 1092}, "test": {"covid": 2295, "cap": 501}}
    pairs = {name: {(case["patient_id"], case["label"]) for case in own} for name, own in cases.items()}
    patients = {name: Counter(label for _, label in own) for name, own in pairs.items()}
    assert patients == {"train": {"covid": 960, "cap": 628}, "test": {"covid": 1605, "cap": 452}}
    assert pairs["train"].isdisjoint(pairs["test"])


def test_the_rare_size_groups_have_the_weights_of_the_paper():
    cases = list(SCRIPT["entries"]("train"))
    labels, ratios = [class_label(case["label"]) for case in cases], [case["ratio"] for case in cases]
    weights = SizeBalancedSampler(labels, ratios).group_weights
    assert weights["covid_small"] == 625 / (151 + 318)  # 1.33; the paper: approximately 1.5
    assert weights["cap_large"] == pytest.approx(1.5, abs=0.01)


@pytest.mark.slow
def test_the_papers_study_is_planned_as_the_page_says(tmp_path, monkeypatch, capsys):
    make, plan = (line.replace("/path/to", str(tmp_path)) for line in COMMANDS)
    subprocess.run([sys.executable, *shlex.split(make)[1:]], cwd=ROOT, check=True)
    folds = [case["fold"] for case in json.loads((tmp_path / "paper/train/datalist.json").read_text())["cases"]]
    assert sorted(Counter(folds).values()) == [437, 437, 437, 437, 438]
    words = shlex.split(plan)[3:]
    monkeypatch.setattr(sys, "argv", ["custom_components", *words])
    started = time.process_time()
    main()
    seconds = time.process_time() - started
    printed = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n4,982 scans listed and 45 runs planned in {seconds:.1f} s of CPU")  # noqa: T201
    assert seconds < MOST_CPU_S
    assert "45 runs, 0 finished" in printed
    scan_s = float(words[words.index("--seconds_per_step") + 1]) / 20
    trained = 3 * 20 * 4 * 2186  # systems, epochs, trainings of each scan
    scored = 3 * 20 * 2186 + 3 * 2186 + 3 * 5 * 2796  # validations, held-out folds, test set by each model
    assert f"| 1 | {in_words((trained + scored / 3) * scan_s)} |" in printed
    rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", printed, re.M))
    assert list(rows) == ["1", "4", "8"]
    assert not (tmp_path / "study").exists()
    assert all(f"| {count} | {row} |" in PAGE for count, row in rows.items())
