"""The commands of docs/study.md are right: each is planned as it is written."""

import re
import shlex
import sys

import pytest
from custom_components.__main__ import main

from tests.bundles.conftest import ROOT
from tests.study.small_data import write_scans, write_slices

PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m custom_components .*$", PAGE, re.M)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_is_planned_as_written(line, tmp_path, monkeypatch, capsys):
    places = {
        "/path/to/data": write_scans(tmp_path / "data"),
        "/path/to/test": write_scans(tmp_path / "test", 1, "t"),
        "/path/to/paper/train": write_scans(tmp_path / "paper"),
        "/path/to/paper/test": write_scans(tmp_path / "others", 1, "t"),
        "/path/to/slices": write_slices(tmp_path / "slices", 24),
        "/path/to/study": tmp_path / "study",
    }
    words = [str(places.get(word, word)) for word in shlex.split(line)[3:]]
    monkeypatch.setattr(sys, "argv", ["custom_components", *words, *([] if "--dry_run" in words else ["--dry_run"])])
    main()
    known = "not known yet" not in (printed := capsys.readouterr().out)
    assert " runs, 0 finished; time left: " in printed
    assert known == ("--seconds_per_step" in words)
