"""A server within this process, and a client that is its own page."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from custom_components.reports.queue.overview import THUMBNAIL
from custom_components.reports.scan.report import write_report
from custom_components.reports.scan.viewer import write_viewer
from custom_components.serve.app import Server
from custom_components.serve.guard import Session
from custom_components.serve.limits import Limits
from PIL import Image
from starlette.testclient import TestClient

from tests.reports.conftest import phantom_findings

PORT = 8123
HOST = f"127.0.0.1:{PORT}"
STANDIN = Path(__file__).with_name("standin.py")
OWN = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
FREE = {"free_bytes": 10**6}
# A file that begins as DICOM.
DICOM = bytes(128) + b"DICM"


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A case as `diagnose` writes it, without masks."""
    folder = tmp_path_factory.mktemp("template")
    findings = phantom_findings((40, 36, 13), (9.7, 9.0, 22.0))
    write_report(findings, folder, True)
    write_viewer(findings, folder)
    Image.new("L", (208, 104), 90).save(folder / THUMBNAIL)
    (folder / "dicom").mkdir()
    (folder / "dicom" / "segmentation.dcm").write_bytes(DICOM)
    return folder


class Client:
    """What the page asks of the server."""

    def __init__(self, http: TestClient, server: Server) -> None:
        self.http, self.server = http, server

    def state(self) -> dict:
        return self.http.get("/api/state").json()

    def job(self, job_id: str) -> dict:
        return next(job for job in self.state()["jobs"] if job["id"] == job_id)

    def cases(self) -> list[dict]:
        return self.http.get("/api/cases").json()

    def new_job(self, label: str = "") -> str:
        return self.http.post("/api/jobs", params={"label": label}).json()["id"]

    def put(self, job_id: str, path: str, content: bytes, **headers: str):
        return self.http.put(f"/api/jobs/{job_id}/files", params={"path": path}, content=content, headers=headers)

    def act(self, job_id: str, action: str):
        return self.http.post(f"/api/jobs/{job_id}/{action}")

    def upload(self, files: Mapping[str, bytes], label: str = "") -> str:
        """Send files and start; the id of the job."""
        job_id = self.new_job(label)
        for path, content in files.items():
            assert self.put(job_id, path, content).status_code == 200
        assert self.act(job_id, "start").status_code == 200
        return job_id

    def wait(self, job_id: str, *states: str) -> dict:
        end = time.monotonic() + 60
        while (job := self.job(job_id))["state"] not in states:
            assert time.monotonic() < end, job
            time.sleep(0.02)
        return job

    def wait_for_stage(self, job_id: str) -> dict:
        end = time.monotonic() + 60
        while not (job := self.job(job_id))["stages"]:
            assert time.monotonic() < end, job
            time.sleep(0.02)
        return job


@pytest.fixture
def serving(tmp_path, template) -> Callable:
    """Start a server on a folder; the client has its cookie."""

    @contextmanager
    def call(
        output_dir: Path = tmp_path / "out", limits: Limits | None = None, grace_s: float = 5.0
    ) -> Iterator[Client]:
        output_dir.mkdir(exist_ok=True)
        session = Session(PORT)
        command = [sys.executable, str(STANDIN), str(template)]
        server = Server(output_dir, session, command, (), limits or Limits(**FREE), grace_s)
        with TestClient(server.app(), base_url=f"http://{HOST}", headers=OWN) as http:
            assert http.get("/", params={"token": session.token}).status_code == 200
            yield Client(http, server)

    return call


@pytest.fixture
def client(serving) -> Iterator[Client]:
    with serving() as client:
        yield client


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def state_on_disk(folder: Path, job_id: str) -> dict:
    return json.loads((folder / "uploads" / job_id / "job.json").read_text(encoding="utf-8"))
