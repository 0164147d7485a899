"""MONAI Label's server as a viewer sees it: a process, and requests over HTTP."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

START_S, REQUEST_S = 240, 240
# As 3D Slicer asks for a segmentation.
SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8"}


@dataclass(frozen=True)
class Answer:
    """What an inference returns: the scores beside the label volume, and its file."""

    params: dict[str, Any]
    name: str
    content: bytes


@dataclass(frozen=True)
class LabelServer:
    """Requests to a server.

    Args:
        url: its address.
        log: what it has written so far.
    """

    url: str
    log: Path

    def get(self, path: str) -> Any:
        return json.loads(self._send(urllib.request.Request(self.url + path))[1])

    def page(self, path: str) -> bytes:
        return self._send(urllib.request.Request(self.url + path))[1]

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return json.loads(self._send(urllib.request.Request(self.url + path, data, headers, method="POST"))[1])

    def put_label(self, image: str, label: Path, params: Mapping[str, Any]) -> Any:
        """Save a corrected label, as the viewer's Submit does."""
        fields = {"params": (None, json.dumps(params).encode()), "label": (label.name, label.read_bytes())}
        path = f"/datastore/label?image={urllib.parse.quote(image)}&tag=final"
        return json.loads(self._send(self._form(path, fields, "PUT"))[1])

    def infer(self, model: str, image: str | Path, **params: Any) -> Answer:
        """Ask for a label volume, as 3D Slicer does."""
        path = f"/infer/{model}?output=all&image={urllib.parse.quote(str(image))}"
        fields = {"params": (None, json.dumps({**SLICER, **params}).encode())}
        kind, body = self._send(self._form(path, fields, "POST"))
        parts = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
        found = {part.get_param("name", header="content-disposition"): part for part in parts}
        image_part = found["image"]
        scores = json.loads(found["params"].get_payload(decode=True), parse_constant=_refuse)
        return Answer(scores, image_part.get_filename(), image_part.get_payload(decode=True))

    def _form(self, path: str, fields: Mapping[str, tuple[str | None, bytes]], method: str) -> urllib.request.Request:
        border = uuid.uuid4().hex
        lines = []
        for key, (name, content) in fields.items():
            of_file = f'; filename="{name}"' if name else ""
            head = f'--{border}\r\nContent-Disposition: form-data; name="{key}"{of_file}\r\n\r\n'
            lines += [head.encode(), content, b"\r\n"]
        headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
        return urllib.request.Request(
            self.url + path, b"".join([*lines, f"--{border}--\r\n".encode()]), headers, method=method
        )

    def _send(self, request: urllib.request.Request) -> tuple[str, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:
                return answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-6000:]
            raise RuntimeError(f"{request.method} {request.full_url}: {error.code} {detail}\n{tail}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> Iterator[LabelServer]:
    """Start a server, wait until it answers, and stop it whatever happens."""
    server = LabelServer(f"http://127.0.0.1:{port}", log)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: LabelServer, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/info/")
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"The server did not start:\n{server.log.read_text(encoding='utf-8', errors='replace')[-6000:]}")
