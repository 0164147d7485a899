import json
import os
import shutil
from pathlib import Path

import pytest
from custom_components.study.runs.data_fingerprint import fingerprint

KEYS = ("image", "label")


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


def moved(cases, tmp_path):
    old = Path(cases[0]["image"]).parent
    new = tmp_path / "elsewhere"
    shutil.copytree(old, new)
    return [{**case, **{key: case[key].replace(str(old), str(new)) for key in KEYS}} for case in cases]


def test_cases_files_and_bytes_are_counted(cases):
    found = fingerprint(cases, KEYS)
    assert (found.cases, found.files, found.size_bytes) == (2, 5, 15)


def test_a_copy_elsewhere_has_the_same_fingerprint(cases, tmp_path):
    assert fingerprint(moved(cases, tmp_path), KEYS) == fingerprint(cases, KEYS)


@pytest.mark.parametrize("change", ["file", "slice", "column", "order"])
def test_another_content_has_another(cases, change):
    before = fingerprint(cases, KEYS).sha256
    folder = Path(cases[0]["image"]).parent
    if change in ("file", "slice"):
        (folder / {"file": "m1.png", "slice": "series/b"}[change]).write_text("z", encoding="utf-8")
    elif change == "column":
        cases[0]["group"] = "q"
    else:
        cases.reverse()
    assert fingerprint(cases, KEYS).sha256 != before


def test_files_are_read_once(cases, tmp_path, monkeypatch):
    known = tmp_path / "known.json"
    first = fingerprint(cases, KEYS, known)

    def refuse(file):
        raise AssertionError(f"{file} was read")

    monkeypatch.setattr("custom_components.study.runs.data_fingerprint.file_digest", refuse)
    assert fingerprint(cases, KEYS, known) == first
    os.utime(cases[0]["image"], (1, 1))
    with pytest.raises(AssertionError, match=r"1\.png was read"):
        fingerprint(cases, KEYS, known)


def test_what_is_kept_names_no_file(cases, tmp_path):
    known = tmp_path / "known.json"
    fingerprint(cases, KEYS, known)
    text = known.read_text(encoding="utf-8")
    assert len(json.loads(text)) == 5
    assert "Doe" not in text
    assert "png" not in text
