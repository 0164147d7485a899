"""The list of cases: their files, pages and zip files; nothing else of the disk; deletion."""

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from custom_components import diagnosis
from custom_components import serve as page_of
from custom_components.serve.job_queue import FIRST_STAGE

from tests.serve.conftest import DICOM, names_below


@pytest.fixture
def old_case(tmp_path, template):
    """A case that `diagnose` wrote into the output folder before."""
    folder = tmp_path / "out" / "1.2.3"
    shutil.copytree(template, folder)
    return folder


def test_a_case_that_was_there_before_is_listed_with_its_numbers_and_files(old_case, client):
    (case,) = client.cases()
    assert (case["name"], case["label"]) == ("1.2.3", "")
    assert [file["path"] for file in case["files"]] == names_below(old_case)
    report = json.loads((old_case / "report.json").read_text(encoding="utf-8"))
    assert case["why"] == report["warnings"]
    assert dict(case["numbers"])["CT score, of 24"] == str(report["distribution"]["ct_score"])


def test_the_stages_that_the_page_shows_are_those_of_diagnose():
    page = Path(page_of.__path__[0], "page", "page.js").read_text(encoding="utf-8")
    listed = page.split("const STAGES = [")[1].split("];")[0]
    names = re.findall(r'\["([^"]+)", "[^"]+"\]', listed)
    assert names[0] == FIRST_STAGE
    assert len(names) == listed.count("[")
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(diagnosis.__path__[0]).glob("*.py"))
    assert [name for name in names if f'.stage("{name}")' not in sources] == []


def test_a_file_is_saved_and_a_page_is_shown_in_a_sandbox(old_case, client):
    key = client.cases()[0]["key"]
    answer = client.http.get(f"/cases/{key}/files/dicom/segmentation.dcm")
    assert answer.content == DICOM
    assert answer.headers["content-disposition"] == 'attachment; filename="segmentation.dcm"'
    saved = client.http.get(f"/cases/{key}/files/viewer.html")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.headers["content-type"] == "application/octet-stream"
    assert client.http.get(f"/cases/{key}/files/thumbnail.png").headers["content-type"] == "image/png"
    for name, sandbox in (("viewer.html", "sandbox allow-scripts;"), ("report.html", "sandbox;")):
        shown = client.http.get(f"/view/{key}/{name}")
        assert shown.content == (old_case / name).read_bytes()
        policy = shown.headers["content-security-policy"]
        assert policy.startswith(f"{sandbox} default-src 'none';")
        assert "allow-same-origin" not in policy
        assert ("script-src" in policy) == (name == "viewer.html")


def test_pages_of_a_case_need_its_key_and_no_cookie(old_case, client):
    key = client.cases()[0]["key"]
    client.http.cookies.clear()
    assert client.http.get(f"/view/{key}/report.html").status_code == 200
    assert client.http.get(f"/view/{'0' * 40}/report.html").status_code == 404
    assert client.http.get("/view/1.2.3/report.html").status_code == 404
    for path in (f"/cases/{key}/files/report.json", f"/cases/{key}/all.zip"):
        assert client.http.get(path).status_code == 403
    assert client.http.request("DELETE", f"/view/{key}/report.html").status_code == 403


def test_keys_change_with_each_start(old_case, serving):
    keys = set()
    for _ in range(2):
        with serving() as client:
            keys.add(client.cases()[0]["key"])
    assert len(keys) == 2


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2Fsecret.txt", "%2e%2e/secret.txt", "%2Fetc%2Fpasswd", "/etc/passwd", "link.txt", ".hidden",
        "dicom", "..", ".", "report.json%00", "nowhere",
    ],
)  # fmt: skip
def test_only_listed_files_are_served(old_case, tmp_path, client, path):
    (tmp_path / "out" / "secret.txt").write_text("secret", encoding="utf-8")
    (old_case / "link.txt").symlink_to(tmp_path / "out" / "secret.txt")
    (old_case / ".hidden").write_text("secret", encoding="utf-8")
    key = client.cases()[0]["key"]
    for place in (f"/cases/{key}/files/{path}", f"/view/{key}/{path}", f"/cases/{path}/all.zip"):
        answer = client.http.get(place)
        assert answer.status_code in (403, 404), place
        assert b"secret" not in answer.content


def test_a_folder_outside_the_list_has_no_key(old_case, tmp_path, client):
    (tmp_path / "out" / "2.3.incomplete").mkdir()
    (tmp_path / "out" / "2.3.incomplete" / "report.json").write_text("{}", encoding="utf-8")
    for name in ("2.3.incomplete", "uploads", "", "."):
        assert client.server.cases.folder(client.server.cases.key_of(name)) is None


def test_a_case_as_zip_has_all_its_files_and_nothing_else(old_case, client):
    (old_case / "link.txt").symlink_to(old_case / "report.json")
    answer = client.http.get(f"/cases/{client.cases()[0]['key']}/all.zip")
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''1.2.3.zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == [f"1.2.3/{name}" for name in names_below(old_case) if name != "link.txt"]
        assert archive.read("1.2.3/viewer.html") == (old_case / "viewer.html").read_bytes()


def test_a_deleted_case_is_gone_with_its_upload_and_its_row_in_the_overview(old_case, template, tmp_path, client):
    out = tmp_path / "out"
    shutil.copytree(template, out / "1.2.4")
    job_id = client.upload({"a.nii.gz": b"voxels"})
    client.wait(job_id, "done")
    (out / "overview.html").write_text("1.2.3 and its picture", encoding="utf-8")
    keys = {row["name"]: row["key"] for row in client.cases()}
    assert client.http.delete(f"/api/cases/{keys['1.2.3']}").status_code == 204
    overview = (out / "overview.html").read_text(encoding="utf-8")
    assert "1.2.3" not in overview
    assert "1.2.4" in overview
    assert client.http.delete(f"/api/cases/{keys[f'scan_{job_id[:8]}_00001']}").status_code == 204
    assert sorted(path.name for path in out.iterdir()) == ["1.2.4", "uploads"]  # the overview of one case is its report
    assert not list((out / "uploads").iterdir())
    assert client.state()["jobs"] == []
    assert client.http.delete(f"/api/cases/{keys['1.2.3']}").status_code == 404


def test_an_upload_is_deleted_with_the_last_of_its_cases(client, tmp_path):
    job_id = client.upload({"a.nii.gz": b"one", "b.nii.gz": b"two"})
    client.wait(job_id, "done")
    first, second = (row["key"] for row in client.cases())
    client.http.delete(f"/api/cases/{first}")
    assert client.job(job_id)["cases"] == [second]
    client.http.delete(f"/api/cases/{second}")
    assert client.state()["jobs"] == []
    assert names_below(tmp_path / "out") == []


def test_a_linked_case_is_taken_from_the_list_and_not_touched(tmp_path, template, client):
    original = tmp_path / "elsewhere"
    shutil.copytree(template, original)
    (tmp_path / "out" / "1.2.5").symlink_to(original)
    before = names_below(original)
    client.http.delete(f"/api/cases/{client.cases()[0]['key']}")
    assert client.cases() == []
    assert names_below(original) == before


def test_an_interrupted_removal_is_finished_at_the_next_start(serving, tmp_path, template):
    with serving():
        shutil.copytree(template, tmp_path / "out/uploads/.removed-0123")
    with serving() as client:
        assert client.cases() == []
        assert not list((tmp_path / "out/uploads").iterdir())


def test_a_report_that_cannot_be_read_does_not_hide_the_others(old_case, tmp_path, client):
    (tmp_path / "out" / "1.2.9").mkdir()
    (tmp_path / "out" / "1.2.9" / "report.json").write_text("{", encoding="utf-8")
    assert [row["name"] for row in client.cases()] == ["1.2.3"]
