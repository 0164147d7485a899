"""Requests that reach MONAI Label, and requests that do not."""

import asyncio
import json

import pytest

from tools import label_guard
from tools.label_guard import Guard

HOST = {"host": "127.0.0.1:8000"}
BOUNDARY = "----7MA4YWxk"


class Recorder:
    """An application that takes every request."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


def status_of(path, query="", body=b"", headers=None, method="POST", chunk=7, kind="http"):
    """Status of a request, and the bodies that the application got."""
    inner, sent = Recorder(), []
    chunks = [body[start : start + chunk] for start in range(0, len(body), chunk)] or [b""]
    parts = iter(
        {"type": "http.request", "body": one, "more_body": number < len(chunks)} for number, one in enumerate(chunks, 1)
    )

    async def receive():
        return next(parts)

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind, "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in {**HOST, **(headers or {})}.items()],
    }  # fmt: skip
    asyncio.run(Guard(inner)(scope, receive, send))
    return sent[0]["status"], inner.bodies


def form(*parts):
    """Multipart form: (header of the part, content)."""
    lines = [f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n" for head, content in parts]
    return {
        "body": f"{''.join(lines)}--{BOUNDARY}--\r\n".encode(),
        "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    }


def params(value):
    return form(('name="params"', json.dumps(value)))


SLICER = {"result_extension": ".nrrd", "result_dtype": "uint8", "device": "cpu", "label_info": [{"name": "lung"}]}


@pytest.mark.parametrize(
    "request_",
    [
        {"path": "/info/", "method": "GET"},
        {"path": "/infer/covid_seg_bundle", "query": "image=scan_01&output=all", **params(SLICER)},
        {"path": "/infer/covid_seg_bundle", "query": "image=folder/scan_01"},
        {"path": "/infer/covid_seg_bundle", "query": "image=/data/1.2.840.5"},
        {"path": "/infer/covid_cap_bundle", **params({"lung": "/data/a_lung.nii.gz", "infection": "/data/b.nii"})},
        {"path": "/activelearning/random", "body": b'{"client_id": "user-xyz"}'},
        {"path": "/datastore/label", "query": "image=a&tag=final", **form(
            ('name="params"', "{}"), ('name="label"; filename="a.nii.gz"', "$binary /../ content"))},
        {"path": "/train/covid_seg_bundle", "body": b'{"max_epochs": 5, "dataset": "CacheDataset", "val_split": 0.2}',
         "headers": {"content-type": "application/json"}},
        {"path": "/ohif/", "method": "GET", "headers": {"origin": "http://127.0.0.1:8000"}},
        {"path": "/dicom/studies/1.2.3/series", "method": "GET", "headers": {"host": "localhost:8000"}},
    ],
)  # fmt: skip
def test_what_slicer_and_ohif_send_is_passed_on_unchanged(request_):
    status, bodies = status_of(**request_)
    assert (status, bodies) == (200, [request_.get("body", b"")])


@pytest.mark.parametrize(
    ("expected", "request_"),
    [
        (400, {"path": "/infer/covid_seg_bundle", **params({"bundle_path": "/tmp/evil"})}),
        (400, {"path": "/infer/covid_seg_bundle", **params({"a": [{"deep": {"bundle_root": "x"}}]})}),
        (400, {"path": "/infer/covid_seg_bundle", **params({"device": "$__import__('os').system('true')"})}),
        (400, {"path": "/infer/covid_seg_bundle", **params({"device": "  $print(1)"})}),
        (400, {"path": "/infer/covid_seg_bundle", **params({"$print(1)": 1})}),
        (400, {"path": "/train/covid_seg_bundle", "body": b'{"x": "@network"}'}),
        (400, {"path": "/train/covid_seg_bundle", "body": b'{"x": "%/etc/passwd::a"}'}),
        (400, {"path": "/train/covid_seg_bundle", "body": b'{"_target_": "os.system"}'}),
        (400, {"path": "/train/covid_seg_bundle", "body": json.dumps({"x": json.dumps({"y": "$1"})}).encode()}),
        (400, {"path": "/train/covid_seg_bundle", "body": b"{not json"}),
        (400, {"path": "/datastore/image", "query": "image=/etc/passwd", "method": "GET"}),
        (400, {"path": "/infer/covid_cap_bundle", **params({"lung": "/data/../etc/a.nii.gz"})}),
        (400, {"path": "/infer/covid_cap_bundle", **params({"infection": "//host/a.nii.gz"})}),
        (400, {"path": "/infer/covid_cap_bundle", **params({"label": "/data/a.nii.gz"})}),
        (400, {"path": "/train/covid_seg_bundle", **params({"image": "/data/a.nii.gz"})}),
        (400, {"path": "/infer/x", "query": "image=..%2F..%2Fetc%2Fpasswd"}),
        (400, {"path": "/infer/x", "query": "image=C:%5CWindows%5Cwin.ini"}),
        (400, {"path": "/infer/x", "query": "image=~root/.ssh/id"}),
        (400, {"path": "/infer/x", "query": "image=a%00b"}),
        (400, {"path": "/model/../../x", "method": "GET"}),
        (400, {"path": "/ohif/%2e%2e/%2e%2e/etc/passwd", "method": "GET"}),
        (400, {"path": "/ohif/%252e%252e%252fetc", "method": "GET"}),
        (400, {"path": "/datastore/image", **form(('name="file"; filename="../../x.nii.gz"', "a"))}),
        (400, {"path": "/datastore/image", **form(('name="file"; filename="..\\\\x.nii.gz"', "a"))}),
        (400, {"path": "/datastore/image", **form(('name="file"; filename="sub/x.nii.gz"', "a"))}),
        (400, {"path": "/datastore/image", **form(("name=\"file\"; filename*=UTF-8''..%2Fx.nii.gz", "a"))}),
        (400, {"path": "/datastore/image", "body": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (400, {"path": "/login/", "body": b"a=%24print(1)",
               "headers": {"content-type": "application/x-www-form-urlencoded"}}),
        (403, {"path": "/info/", "method": "GET", "headers": {"origin": "https://evil.example"}}),
        (403, {"path": "/info/", "method": "GET", "headers": {"origin": "null"}}),
        (403, {"path": "/info/", "method": "GET", "headers": {"host": "evil.example:8000"}}),
        (403, {"path": "/info/", "kind": "websocket"}),
        (413, {"path": "/datastore/image", "headers": {"content-length": str(5 << 30)}}),
    ],
)  # fmt: skip
def test_what_would_run_code_or_leave_a_folder_is_refused(expected, request_):
    assert status_of(**request_) == (expected, [])


def test_an_endless_upload_is_refused_when_it_becomes_too_large(monkeypatch):
    monkeypatch.setattr(label_guard, "MOST_BYTES", 20)
    assert status_of("/datastore/image", body=b"x" * 20) == (200, [b"x" * 20])
    assert status_of("/datastore/image", body=b"x" * 21) == (413, [])
