"""docs/bench_training_step.py on a small grid: one step in two parts, as the configs train."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "bench_training_step.py"


@pytest.mark.slow  # starts two trainings at full width
def test_each_part_and_both_branches_are_measured():
    command = [sys.executable, str(SCRIPT), "1", "2", "[24, 48, 48]"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert "one step of 2 scans of 24 x 48 x 48 as 2 x 1" in done.stdout
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", done.stdout, re.M)
    assert [name for name, *_ in rows] == ["uniform", "size_balanced"]
    for _, *cells in rows:
        seconds, cpu, cpu_a_scan, gigabytes = map(float, cells)
        assert seconds > 0
        assert abs(cpu - 2 * cpu_a_scan) < 0.02
        assert 0.3 < gigabytes < 8
    assert re.findall(r"part (\d of 2)", done.stderr) == ["1 of 2", "2 of 2"] * 2
