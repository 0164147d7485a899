"""Each hostile upload gets its status and reason, and nothing of it stays on the disk."""

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from custom_components.serve.limits import RefusedError
from custom_components.serve.names import safe_parts
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.conftest import DICOM, names_below
from tests.serve.hostile import ROWS, SMALL, changed, zip_of

PAGE = Path(__file__).resolve().parents[2] / "docs/serve.md"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_hostile_upload_gets_its_status_and_reason_and_leaves_nothing(row, serving, tmp_path):
    (tmp_path / "out").mkdir()
    around = set(tmp_path.iterdir())
    with serving(limits=row.limits) as client:
        answer = row.send(client)
        assert (answer.status_code, row.words in answer.text) == (row.status, True), answer.text
        if row.status != 200:
            assert "Nothing was kept." in answer.json()["error"]
            assert client.state()["jobs"] == []
            assert names_below(tmp_path / "out") == []
            assert not list((tmp_path / "out/uploads").iterdir())
    assert set(tmp_path.iterdir()) == around


def test_the_documentation_lists_each_of_them_with_its_status():
    table = PAGE.read_text(encoding="utf-8").split("## Hostile uploads")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\d+): ", table, re.MULTILINE)
    listed = [(name, int(status)) for name, status in rows]
    assert listed[: len(ROWS)] == [(row.name, row.status) for row in ROWS]


def test_an_ordinary_zip_file_is_unpacked_without_its_names(serving, tmp_path):
    files = {f"DOE^JANE/ä {number}": DICOM + bytes([number]) for number in range(3)} | {"__MACOSX/._1": DICOM}
    with serving(limits=SMALL) as client:
        job_id = client.upload({"DOE^JANE.zip": zip_of({"DOE^JANE/": b"", **files})})
        job = client.wait(job_id, "done")
    assert (job["files"], job["left_out"], job["bytes"]) == (3, 1, 3 * len(DICOM) + 3)
    stored = names_below(tmp_path / "out/uploads" / job_id)
    assert [name for name in stored if name.startswith("files/")] == [f"files/00001/0000{n}.dcm" for n in (2, 3, 4)]
    assert not [name for name in stored if name.endswith(".zip")]


def test_what_unpacks_is_counted_whatever_the_headers_say(serving, monkeypatch):
    """As if the check of the headers were not there."""
    monkeypatch.setattr("custom_components.serve.zips.checked_entries", lambda entries, *_: entries)
    with serving(limits=SMALL) as client:
        job_id = client.new_job()
        client.put(job_id, "a.zip", zip_of({"1.dcm": bytes(2 * 10**6)}))
        answer = client.act(job_id, "start")
        assert (answer.status_code, "more than 0.001 GB" in answer.text) == (413, True)


def test_a_damaged_content_is_refused(serving):
    content = zip_of({"1.dcm": DICOM}, zipfile.ZIP_STORED)
    content = changed(content, b"PK\x01\x02", 16, b"\1\2\3\4")  # the check sum
    with serving() as client:
        job_id = client.new_job()
        client.put(job_id, "a.zip", content)
        assert "damaged" in client.act(job_id, "start").json()["error"]
        assert client.state()["jobs"] == []


def test_the_number_of_unfinished_uploads_is_limited(serving):
    with serving(limits=replace(SMALL, unfinished=2)) as client:
        client.new_job()
        client.new_job()
        answer = client.http.post("/api/jobs")
        assert (answer.status_code, "2 uploads wait already" in answer.text) == (429, True)
        assert client.http.post("/api/jobs", params={"bytes": "-1"}).status_code == 429


@pytest.mark.parametrize("size", ["-1", "1e9", "x", "1.5"])
def test_a_size_that_is_no_number_is_refused(client, size):
    assert client.http.post("/api/jobs", params={"bytes": size}).status_code == 400


@given(st.text(max_size=40))
def test_a_path_that_is_accepted_stays_inside(path):
    try:
        parts = safe_parts(path)
    except RefusedError:
        return
    assert parts
    assert not {"", ".", ".."} & {*parts}
    assert not re.search(r"[\\\x00-\x1f]", path)
    assert Path("/base", *parts).resolve().is_relative_to("/base")
