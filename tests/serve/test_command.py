"""The program itself: what it prints, where it listens, what ends it."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import quote

import pytest
from custom_components.phantom import make_scan
from custom_components.serve import command
from custom_components.serve.command import listening_socket

from tests.diagnosis.conftest import PATIENT_ID, PATIENT_NAME, write_series

PROGRAM = [sys.executable, "-m", "custom_components", "serve"]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{43}\n")
LISTENING = "0A"


@contextmanager
def program(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The program and the address that it prints; ended by Ctrl-C."""
    command = [*PROGRAM, str(folder), *options]
    log = folder.parent / "log.txt"
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8")
    try:
        process.stdout.readline()
        address = process.stdout.readline()
        assert ADDRESS.fullmatch(address), log.read_text(encoding="utf-8")
        yield process, address.strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        process.stdout.close()


class Visitor:
    """A browser without a screen: cookies, and the headers of its own page."""

    def __init__(self, address: str) -> None:
        self.base = address.split("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._opener.open(self._until_it_answers(address))

    def _until_it_answers(self, address: str) -> str:
        end = time.monotonic() + 60
        host, port = self.base.removeprefix("http://").split(":")
        while True:
            with socket.socket() as one:
                if one.connect_ex((host, int(port))) == 0:
                    return address
            assert time.monotonic() < end
            time.sleep(0.05)

    def ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"{self.base}{path}", content, {"Origin": self.base}, method=method)
        with self._opener.open(request, timeout=60) as answer:
            return answer.read()

    def state(self) -> dict:
        return json.loads(self.ask("GET", "/api/state"))

    def upload(self, files: dict[str, bytes]) -> str:
        job_id = json.loads(self.ask("POST", "/api/jobs"))["id"]
        for path, content in files.items():
            self.ask("PUT", f"/api/jobs/{job_id}/files?path={path}", content)
        self.ask("POST", f"/api/jobs/{job_id}/start")
        return job_id

    def wait(self, condition, seconds: float = 300) -> dict:
        end = time.monotonic() + seconds
        while not condition(state := self.state()):
            assert time.monotonic() < end, state
            time.sleep(0.2)
        return state


def listeners(process: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process listens, from what Linux tells of its sockets."""
    sockets = {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            inode = line.split()[9]
            if state == LISTENING and f"socket:[{inode}]" in sockets:
                address, port = local.split(":")
                octets = [str(int(address[place : place + 2], 16)) for place in (6, 4, 2, 0)]
                found.add((".".join(octets) if table == "tcp" else address, int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/self/net").is_dir(), reason="needs /proc, which Linux has")
def test_it_listens_on_the_loopback_address_alone_and_ends_with_ctrl_c(tmp_path):
    with program(tmp_path / "out") as (process, address):
        Visitor(address)
        port = int(ADDRESS.fullmatch(f"{address}\n")[1])
        assert listeners(process.pid) == {("127.0.0.1", port)}
    assert process.returncode == 130
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.splitlines()[-1].startswith("WARNING Stopped. Waiting and unfinished scans")
    assert "token" not in log
    assert "Traceback" not in log


def test_a_body_of_10_gb_is_refused_before_it_is_sent(tmp_path):
    with program(tmp_path / "out") as (_, address):
        visitor = Visitor(address)
        job_id = json.loads(visitor.ask("POST", "/api/jobs"))["id"]
        (cookie,) = next(
            handler.cookiejar
            for handler in visitor._opener.handlers
            if isinstance(handler, urllib.request.HTTPCookieProcessor)
        )
        host = visitor.base.removeprefix("http://")
        lines = (
            f"PUT /api/jobs/{job_id}/files?path=a.nii HTTP/1.1", f"Host: {host}", f"Origin: {visitor.base}",
            f"Cookie: {cookie.name}={cookie.value}", "Content-Length: 10000000000", "", "x",
        )  # fmt: skip
        with socket.create_connection(tuple(host.split(":")), timeout=30) as connection:
            connection.sendall("\r\n".join(lines).encode())
            assert b" 413 " in connection.recv(1000).split(b"\r\n")[0]


def test_a_second_server_of_the_same_folder_is_refused(tmp_path, command_line, caplog):
    with program(tmp_path / "out"):
        assert command_line("serve", tmp_path / "out") == 1
        assert "Another server uses" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "80"), "port is 80. Expected 0 (any free port), or 1024 to 65535."),
        (("--port", "70000"), "port is 70000."),
        (("--max_upload_gb", "0"), "max_upload_gb is 0. Expected a number of GB above 0, such as 4."),
        (("--seg_weights", "nowhere.pt"), "No weights at "),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(tmp_path, command_line, caplog, options, message):
    assert command_line("serve", tmp_path / "out", *options) == 1
    assert message in caplog.messages[-1]
    assert not (tmp_path / "out").exists()


def test_a_port_in_use_is_refused_with_the_remedy(tmp_path, command_line, caplog):
    with listening_socket(0) as other:
        other.listen()
        port = other.getsockname()[1]
        assert command_line("serve", tmp_path / "out", "--port", port) == 1
    assert caplog.messages[-1].startswith(f"Port {port} cannot be used (Address already in use). Choose another")


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path, command_line, caplog, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else there(name))
    assert command_line("serve", tmp_path / "out") == 1
    assert caplog.messages[-1] == 'serve needs uvicorn. Install: pip install "custom_components[serve]".'


def test_the_browser_opens_a_private_file_that_leads_to_the_address(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    command._open(tmp_path / "open.html", "http://127.0.0.1:1/?token=x")
    assert opened == [(tmp_path / "open.html").as_uri()]
    assert (tmp_path / "open.html").stat().st_mode & 0o777 == 0o600
    assert "url=http://127.0.0.1:1/?token=x" in (tmp_path / "open.html").read_text(encoding="utf-8")


def test_neither_the_package_nor_its_other_verbs_need_the_extra():
    block = "import sys; sys.modules.update(starlette=None, uvicorn=None); "
    code = "import custom_components.serve.command, custom_components.diagnosis.case_folder"
    subprocess.run([sys.executable, "-c", block + code], check=True)


@pytest.mark.slow
def test_a_dicom_study_becomes_a_case_even_if_the_server_is_killed_in_between(tmp_path):
    """The real `diagnose`, with the included weights, on a phantom."""
    folder = tmp_path / PATIENT_NAME
    write_series(make_scan("covid", 0.2, 3, (96, 84, 40), (3.9, 4.4, 7.0)), folder)
    files = {f"{quote(folder.name)}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "out"
    with program(out) as (process, address):
        visitor = Visitor(address)
        visitor.upload(files)
        visitor.wait(lambda state: state["jobs"][0]["stages"])
        process.kill()
        process.wait()
    with program(out) as (process, address):
        visitor = Visitor(address)
        (job,) = visitor.wait(lambda state: state["jobs"][0]["state"] in ("done", "failed"))["jobs"]
        assert (job["state"], job["errors"], job["left_out"]) == ("done", [], 0)
        (case,) = json.loads(visitor.ask("GET", "/api/cases"))
        names = {file["path"] for file in case["files"]}
        assert {"report.html", "viewer.html", "report.json", "thumbnail.png"} <= names
        assert sum(name.endswith(".nii.gz") for name in names) >= 3
        assert sum(name.endswith(".dcm") for name in names) >= 2
        assert b"niivue" in visitor.ask("GET", f"/view/{case['key']}/viewer.html")
    assert [path.name for path in out.iterdir() if path.name not in (case["name"], "uploads")] == []
    texts = [path for path in (*out.rglob("*"), tmp_path / "log.txt") if path.is_file() and path.suffix != ".dcm"]
    assert len(texts) >= 10
    for word in (PATIENT_NAME, PATIENT_ID):
        assert not [path for path in texts if word.encode() in path.read_bytes()]
        assert not [path for path in out.rglob("*") if word in path.name]
