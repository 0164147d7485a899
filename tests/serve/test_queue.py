"""Uploads become cases: one at a time, cancelled, repeated, deleted, found again after a restart."""

import json
import time

import pytest
from custom_components.serve import job_queue

from tests.full_disk import fill_disk
from tests.serve.conftest import DICOM, names_below, state_on_disk

SCAN = {"a.nii.gz": b"voxels"}


def test_a_nifti_file_becomes_a_case_under_a_number_instead_of_its_name(client, tmp_path):
    job_id = client.upload({"DOE_JANE_1949.nii.gz": b"voxels"}, label="  follow-up\n2 ")
    job = client.wait(job_id, "done")
    (case,) = client.cases()
    assert case["name"] == f"scan_{job_id[:8]}_00001"
    assert case["label"] == job["label"] == "follow-up 2"
    assert job["cases"] == [case["key"]]
    assert (job["files"], job["bytes"], job["left_out"], job["scans"]) == (1, 6, 0, 1)
    assert dict(case["numbers"])["Infection, ml"] is not None
    assert not [path for path in (tmp_path / "out").rglob("*") if "DOE" in path.name]
    assert "DOE" not in (tmp_path / "out/uploads" / job_id / "job.json").read_text(encoding="utf-8")


def test_folders_stay_apart_without_their_names_and_other_files_are_left_out(client, tmp_path):
    files = {f"DOE^JANE/{series}/{number}": DICOM + series.encode() for series in ("x", "y") for number in range(3)}
    files |= {"DOE^JANE/viewer.exe": b"MZ", "DOE^JANE/.DS_Store": b"DICM", "DOE^JANE/x/odd.dcm": b"x"}
    job_id = client.upload(files)
    job = client.wait(job_id, "done")
    assert (job["files"], job["left_out"], job["scans"]) == (7, 2, 2)
    stored = names_below(tmp_path / "out/uploads" / job_id / "files")
    assert len(stored) == 7
    assert {name.rsplit("/", 1)[0] for name in stored} == {"00001/00002", "00001/00003"}
    assert all(name.endswith(".dcm") for name in stored)
    assert len(client.cases()) == 2


def test_two_scans_wait_in_a_queue_and_run_one_after_the_other(client):
    first, second = (client.upload({"a.nii.gz": content}) for content in (b"hang 1", b"voxels"))
    assert client.wait_for_stage(first)["stages"] == ["read"]
    assert client.job(second)["state"] == "waiting"
    time.sleep(0.2)
    assert client.job(second)["state"] == "waiting"
    assert client.act(first, "cancel").json() == {"state": "cancelled"}
    assert client.wait(second, "done")["errors"] == []


@pytest.mark.parametrize("content", [b"hang", b"stubborn"])
def test_a_cancelled_scan_leaves_no_half_case_and_can_be_started_again(serving, tmp_path, content):
    with serving(grace_s=0.3) as client:
        job_id = client.upload({"a.nii.gz": content})
        client.wait_for_stage(job_id)
        case = f"scan_{job_id[:8]}_00001"
        assert (tmp_path / "out" / f"{case}.incomplete").is_dir()
        assert client.act(job_id, "cancel").status_code == 200
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["uploads"]
        assert client.job(job_id)["state"] == "cancelled"
        stored = tmp_path / "out/uploads" / job_id / "files" / f"{case}.nii.gz"
        stored.write_bytes(b"voxels")
        assert client.act(job_id, "repeat").json() == {"state": "waiting"}
        client.wait(job_id, "done")
        assert [row["name"] for row in client.cases()] == [case]


def test_a_waiting_scan_is_cancelled_without_being_started(client):
    first, second = (client.upload({"a.nii.gz": b"hang"}) for _ in range(2))
    client.wait_for_stage(first)
    client.act(second, "cancel")
    assert client.job(second)["state"] == "cancelled"
    client.act(first, "cancel")
    time.sleep(0.2)
    assert client.job(second)["state"] == "cancelled"


def test_a_failed_scan_says_why_and_the_others_of_its_upload_are_finished(client, tmp_path):
    job_id = client.upload({"a.nii.gz": b"fail", "b.nii.gz": b"voxels"})
    job = client.wait(job_id, "failed")
    assert job["errors"] == ["No plausible lungs were found. Give a chest CT."]
    assert job["cases"] == [row["key"] for row in client.cases()]
    assert len(job["cases"]) == 1
    assert len(list((tmp_path / "out").glob("*.incomplete"))) == 1  # continued by a repetition
    assert client.http.delete(f"/api/jobs/{job_id}").status_code == 204
    assert not list((tmp_path / "out").glob("*.incomplete"))
    assert len(client.cases()) == 1


def test_a_crash_of_the_process_fails_its_scan_alone(client):
    first, second = (client.upload({"a.nii.gz": content}) for content in (b"crash", b"voxels"))
    assert client.wait(first, "failed")["errors"] == ["The disk of the output folder is full."]
    client.wait(second, "done")


def test_a_fault_of_the_queue_fails_one_scan_and_the_next_is_processed(client, monkeypatch):
    monkeypatch.setattr(job_queue, "MOST_LINE", 5)
    job = client.wait(client.upload(SCAN), "failed")
    assert job["errors"][0].startswith("The scan could not be processed (ValueError).")
    monkeypatch.undo()
    client.wait(client.upload(SCAN), "done")


def test_a_full_disk_is_reported_and_the_server_goes_on(client, tmp_path, monkeypatch):
    fill_disk(monkeypatch, "job.json")
    job_id = client.upload(SCAN)
    client.wait(job_id, "done")
    monkeypatch.undo()
    monkeypatch.setattr(client.server.jobs, "folder", tmp_path / "nowhere")
    answer = client.http.post("/api/jobs")
    assert (answer.status_code, "No such file or directory" in answer.json()["error"]) == (507, True)


def test_uploads_are_readable_by_their_user_only(client, tmp_path):
    job_id = client.new_job()
    for folder in (tmp_path / "out/uploads", tmp_path / "out/uploads" / job_id):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_an_upload_is_cancelled_before_it_is_complete(client, tmp_path):
    job_id = client.new_job()
    client.put(job_id, "a.nii.gz", b"voxels")
    assert client.job(job_id)["state"] == "uploading"
    client.act(job_id, "cancel")
    assert client.state()["jobs"] == []
    assert names_below(tmp_path / "out") == []
    assert client.put(job_id, "b.nii.gz", b"voxels").status_code == 404


def test_a_restart_in_the_middle_finds_everything_again(serving, tmp_path):
    with serving() as client:
        done = client.upload(SCAN, label="first")
        client.wait(done, "done")
        running, waiting = client.upload({"a.nii.gz": b"hang"}), client.upload(SCAN)
        sent = client.new_job()
        client.put(sent, "a.nii.gz", b"voxels")
        client.wait_for_stage(running)
    assert state_on_disk(tmp_path / "out", running)["state"] == "running"
    content = tmp_path / "out/uploads" / running / "files" / f"scan_{running[:8]}_00001.nii.gz"
    content.write_bytes(b"voxels")
    with serving() as client:
        assert [job["id"] for job in client.state()["jobs"]] == [done, running, waiting]  # incomplete uploads are gone
        assert not (tmp_path / "out/uploads" / sent).exists()
        for job_id in (running, waiting):
            client.wait(job_id, "done")
        assert {row["label"] for row in client.cases()} == {"first", ""}
        assert len(client.cases()) == 3


def test_the_process_ends_with_the_server(serving, tmp_path):
    with serving() as client:
        job_id = client.upload({"a.nii.gz": b"hang"})
        client.wait_for_stage(job_id)
        process = client.server.queue._process
    assert process.returncode is not None


def test_what_is_not_possible_any_more_is_refused_with_the_reason(client):
    job_id = client.upload({"a.nii.gz": b"hang"})
    client.wait_for_stage(job_id)
    for answer in (client.put(job_id, "b.nii.gz", b""), client.act(job_id, "start"), client.act(job_id, "repeat")):
        assert answer.status_code == 409
    assert client.http.delete(f"/api/jobs/{job_id}").json()["error"].endswith("Cancel it first.")
    client.act(job_id, "cancel")
    assert client.act("0" * 32, "cancel").status_code == 404
    assert client.act(job_id, "explode").status_code == 409


def test_a_job_of_an_earlier_version_keeps_what_it_has(serving, tmp_path):
    folder = tmp_path / "out/uploads" / ("0" * 32)
    (folder / "files").mkdir(parents=True)
    (folder / "files" / "scan_1.nii").write_bytes(b"voxels")
    kept = {"id": "0" * 32, "created": "2026-01-01T00:00:00+00:00", "state": "waiting", "label": "old", "odd": 1}
    (folder / "job.json").write_text(json.dumps(kept), encoding="utf-8")
    with serving() as client:
        assert client.wait("0" * 32, "done")["label"] == "old"
