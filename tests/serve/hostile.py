"""Hostile uploads: how each is sent, and the status and words that it gets. ``docs/serve.md`` lists the same."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from custom_components.serve.limits import Limits

from tests.serve.conftest import DICOM, FREE, Client

SMALL = Limits(upload_bytes=10**6, files=20, **FREE)
PASSWORD_FLAG, FLAGS_LOCAL, FLAGS_LISTED = 0x1, 6, 8


@dataclass(frozen=True)
class Row:
    """One hostile upload.

    Args:
        name: what it is, as the page of the documentation says.
        send: sends it; the answer.
        status: status of the answer.
        words: part of its reason.
        limits: bounds of the server.
    """

    name: str
    send: Callable[[Client], Any]
    status: int
    words: str
    limits: Limits = SMALL


def one_file(path: str, content: bytes = DICOM, **headers: str) -> Callable[[Client], Any]:
    return lambda client: client.put(client.new_job(), path, content, **headers)


def started(path: str, content: bytes) -> Callable[[Client], Any]:
    def send(client: Client) -> Any:
        job_id = client.new_job()
        assert client.put(job_id, path, content).status_code == 200
        return client.act(job_id, "start")

    return send


def zip_of(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = method, mode << 16
            archive.writestr(entry, text)
    return content.getvalue()


def zipped(*names: str, content: bytes = DICOM, **options: int) -> Callable[[Client], Any]:
    return started("a.zip", zip_of(dict.fromkeys(names, content), **options))


def changed(content: bytes, sign: bytes, offset: int, value: bytes) -> bytes:
    """A zip file with bytes of each header of a kind replaced."""
    place = content.find(sign)
    while place >= 0:
        content = content[: place + offset] + value + content[place + offset + len(value) :]
        place = content.find(sign, place + 4)
    return content


def with_password() -> bytes:
    flag = struct.pack("<H", PASSWORD_FLAG)
    content = changed(zip_of({"1.dcm": DICOM}), b"PK\x03\x04", FLAGS_LOCAL, flag)
    return changed(content, b"PK\x01\x02", FLAGS_LISTED, flag)


def lying_size() -> bytes:
    """Its list says 100 bytes for what unpacks to 2 MB, and so does the header of the file."""
    small = struct.pack("<I", 100)
    content = changed(zip_of({"1.dcm": DICOM + bytes(2 * 10**6)}), b"PK\x03\x04", 22, small)
    return changed(content, b"PK\x01\x02", 24, small)


def long_list() -> bytes:
    """Its end says that the list of content has 100 MB, and it has: one file with a long comment, many times."""
    entry = zip_of({"1.dcm": DICOM}, zipfile.ZIP_STORED)
    start, end = entry.index(b"PK\x01\x02"), entry.index(b"PK\x05\x06")
    listed = bytearray(entry[start:end])
    listed[32:34] = struct.pack("<H", 65535)
    listed += bytes(65535)
    count = 100 * 10**6 // len(listed)
    return b"".join(
        (
            entry[:start],
            bytes(listed) * count,
            b"PK\x05\x06",
            struct.pack("<HHHHIIH", 0, 0, count, count, len(listed) * count, start, 0),
        )
    )


def pieces(total: int) -> Iterator[bytes]:
    for _ in range(total // 10**5):
        yield bytes(10**5)


def many_files(client: Client) -> Any:
    job_id = client.new_job()
    answers = [client.put(job_id, f"{number}.dcm", DICOM) for number in range(SMALL.files + 1)]
    assert {answer.status_code for answer in answers[:-1]} == {200}
    return answers[-1]


def with_script_in_names(client: Client) -> Any:
    job_id = client.new_job("<script>alert(1)</script>")
    assert client.put(job_id, "<img src=x onerror=alert(1)>/<svg onload=alert(1)>.nii.gz", b"voxels").status_code == 200
    answer = client.act(job_id, "start")
    client.wait(job_id, "done")
    (case,) = client.cases()
    assert "<" not in case["name"]
    return answer


ROWS = (
    Row(
        "a file of 10 GB, announced",
        one_file("a.nii.gz", b"x", **{"content-length": str(10**10)}),
        413,
        "more than",
        Limits(**FREE),
    ),
    Row(
        "a file of 10 GB, announced when the upload begins",
        lambda client: client.http.post("/api/jobs", params={"bytes": 10**10}),
        413,
        "more than",
        Limits(**FREE),
    ),
    Row("a file that is larger than announced", one_file("a.nii.gz", pieces(2 * 10**6)), 413, "more than"),
    Row("more than 20,000 files", many_files, 413, "more than 20 files"),
    Row(
        "more than the free disk space",
        lambda client: client.http.post("/api/jobs"),
        507,
        "which is too little",
        Limits(free_bytes=10**18),
    ),
    Row(
        "another type only (a program, a picture)",
        started("viewer.exe", b"MZ" + bytes(300)),
        422,
        "neither a NIfTI file",
    ),
    Row("a path that leads upwards", one_file("../../etc/cron.d/1.dcm"), 400, "leads upwards"),
    Row("an absolute path", one_file("/etc/cron.d/1.dcm"), 400, "absolute path"),
    Row("a drive letter", one_file("C:/Windows/1.dcm"), 400, "drive letter"),
    Row("backslashes", one_file("..\\..\\1.dcm"), 400, "backslash"),
    Row("a NUL or another control character", one_file("1.dcm\x00.exe"), 400, "control character"),
    Row("a very long name", one_file("x" * 300 + ".dcm"), 400, "too long"),
    Row("no name", one_file(""), 400, "empty"),
    Row("script in names and label", with_script_in_names, 200, "waiting"),
    Row("a zip bomb", zipped("1.dcm", content=bytes(10**8)), 413, "would unpack to 0.1 GB"),
    Row("a zip bomb below the size limit", zipped("1.dcm", content=bytes(9 * 10**5)), 413, "100 times its own size"),
    Row("a zip bomb whose headers lie", started("a.zip", lying_size()), 422, "damaged"),
    Row(
        "a zip file with an endless list of content",
        started("a.zip", long_list()),
        413,
        "too many entries",
        Limits(**FREE),
    ),
    Row(
        "a zip file with more than 20,000 entries",
        zipped(*(f"{number}.dcm" for number in range(21))),
        413,
        "more than 20 entries",
    ),
    Row("a zip file in a zip file", zipped("inner.zip", content=zip_of({"1.dcm": DICOM})), 422, "another zip file"),
    Row("a path that leads upwards, in a zip file", zipped("../../1.dcm"), 400, "leads upwards"),
    Row("an absolute path, in a zip file", zipped("/etc/1.dcm"), 400, "absolute path"),
    Row("backslashes, in a zip file", zipped("..\\1.dcm"), 400, "backslash"),
    Row("a link in a zip file", zipped("1.dcm", content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777), 422, "a link"),
    Row("a zip file with a password", started("a.zip", with_password()), 422, "password"),
    Row("a zip file with bzip2 or LZMA", zipped("1.dcm", method=zipfile.ZIP_BZIP2), 422, "unusual compression"),
    Row("a damaged zip file", started("a.zip", b"PK\x03\x04" + bytes(100)), 422, "damaged"),
    Row("a zip file without a scan", zipped("readme.txt", content=b"hello"), 422, "neither a NIfTI file"),
)
