"""Refuses requests to MONAI Label that reach its published vulnerabilities, before MONAI Label sees them.

`tools/monai_label.py` copies this file into the app, where `label_server.py` puts it before the server. It needs
nothing but Python, because MONAI Label has an environment of its own. MONAI Label 0.8.5 writes uploads outside
its folders, and runs code from `bundle_path` and from values that begin with `$`; 0.8.6 to 0.8.8, which the package
index does not have, mend this.
"""

import itertools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from email.parser import BytesHeaderParser
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

# Keys of a request that name code or its place.
KEYS = frozenset(("bundle_path", "bundle_root", "bundle", "script", "config_file", "meta_file", "logging_file"))
# Keys of a request for inference whose values may be absolute paths of scan and masks, docs/monai_label.md.
INFERENCE, FILES = "/infer/", frozenset(("image", "lung", "infection"))
# MONAI evaluates or resolves texts with these beginnings in a config.
REFERENCES = ("$", "@", "%", "~")
ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:[/\\]")
LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
MOST_BYTES = 4 << 30


class RefusedError(ValueError):
    """A request that is not passed on: status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """ASGI application that passes harmless requests on.

    Refused are requests of other sites' pages, names that leave a folder (``..``, absolute, NUL), keys that name code,
    and texts that MONAI would evaluate, in the path, the query, a form or JSON, at any depth. Uploaded files are not
    read, only their names. Bodies are kept in memory until they have been checked.

    Args:
        app: the guarded application.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request; websockets are refused, MONAI Label has none."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            if scope["type"] != "http":
                raise RefusedError(403, "only HTTP is served")
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            check_place(headers)
            files = FILES if scope["path"].startswith(INFERENCE) else frozenset()
            check_address(scope["path"], scope.get("raw_path") or b"", scope["query_string"], files)
            body = await _body(receive, int(headers.get("content-length") or 0))
            check_body(body, headers.get("content-type", ""), files)
        except RefusedError as refused:
            await _answer(send, refused.status, str(refused))
            return
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(parts, None) or await receive()

        await self.app(scope, again, send)


def check_place(headers: MutableMapping[str, str]) -> None:
    """Check that a request is for this computer, and not of another site's page.

    Raises:
        RefusedError: otherwise.
    """
    host = headers.get("host", "")
    if host.rsplit(":", 1)[0] not in LOOPBACK and host not in LOOPBACK:
        raise RefusedError(403, "the host is not this computer")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise RefusedError(403, "the request comes from a page of another origin")


def check_address(path: str, raw: bytes, query: bytes, files: frozenset[str] = frozenset()) -> None:
    """Check the path and the query; ``files`` as for :func:`check_values`.

    Raises:
        RefusedError: when they leave a folder, or hold what MONAI would evaluate.
    """
    for one in (path, unquote(raw.decode("latin-1")), unquote(unquote(raw.decode("latin-1")))):
        _check_name(one.lstrip("/"), "the path")
    check_values(parse_qsl(query.decode("latin-1"), keep_blank_values=True), files)


def check_values(pairs: Iterable[tuple[str, Any]], files: frozenset[str] = frozenset()) -> None:
    """Check names and values of a query, a form or JSON, at any depth; a text that is JSON is read as well.

    Args:
        pairs: names and values.
        files: names whose values may be absolute paths.

    Raises:
        RefusedError: when one is not allowed.
    """
    for name, value in pairs:
        if name in KEYS or name.startswith("_"):
            raise RefusedError(400, f"{name} is not allowed in a request")
        _check_text(name)
        if isinstance(value, dict):
            check_values(value.items(), files)
        elif isinstance(value, list):
            check_values((("", one) for one in value), files)
        elif isinstance(value, str):
            _check_text(value[1:] if name in files and value.startswith("/") else value)
            if value.lstrip()[:1] in ("{", "["):
                check_values([("", _json(value))], files)


def check_body(body: bytes, content_type: str, files: frozenset[str] = frozenset()) -> None:
    """Check a form, an upload or JSON; ``files`` as for :func:`check_values`.

    Raises:
        RefusedError: when it cannot be read, or something in it is not allowed.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        boundary = re.search(r'boundary="?([^";]+)', content_type)
        if boundary is None:
            raise RefusedError(400, "the form has no boundary")
        check_form(body, boundary[1].encode("latin-1"), files)
    elif kind == "application/x-www-form-urlencoded":
        check_values(parse_qsl(body.decode("latin-1"), keep_blank_values=True), files)
    elif body and (kind == "application/json" or body.lstrip()[:1] in (b"{", b"[")):
        check_values([("", _json(body.decode("utf-8", "replace")))], files)


def check_form(body: bytes, boundary: bytes, files: frozenset[str] = frozenset()) -> None:
    """Check the parts of a multipart form: the names of uploads, and the texts; ``files`` as for :func:`check_values`.

    Raises:
        RefusedError: when one is not allowed.
    """
    marks = [found.span() for found in re.finditer(rb"(?:^|\r\n)--" + re.escape(boundary), body)]
    for (_, start), (end, _) in itertools.pairwise(marks):
        head = body.find(b"\r\n\r\n", start, end)
        if head < 0:
            raise RefusedError(400, "a part of the form has no header")
        header = BytesHeaderParser().parsebytes(body[start:head].lstrip(b"\r\n"))
        file, name = header.get_filename(), header.get_param("name", header="content-disposition")
        if file is not None:
            _check_name(str(file), "the name of an upload")
            if "/" in str(file):
                raise RefusedError(400, "the name of an upload is a path")
        else:
            check_values([(str(name or ""), body[head + 4 : end].decode("utf-8", "replace"))], files)


def _check_text(text: str) -> None:
    if text.lstrip().startswith(REFERENCES):
        raise RefusedError(400, f"a value begins with {text.lstrip()[0]}")
    _check_name(text, "a value")


def _check_name(text: str, what: str) -> None:
    if "\0" in text or ABSOLUTE.match(text) or any(part == ".." for part in re.split(r"[/\\]", text)):
        raise RefusedError(400, f"{what} leaves its folder")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise RefusedError(400, "a value is not JSON") from None


async def _body(receive: Receive, announced: int) -> bytes:
    chunks, size, more = [], 0, True
    if announced > MOST_BYTES:
        raise RefusedError(413, "the request is too large")
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the request ended early")
        chunks.append(message.get("body", b""))
        size, more = size + len(chunks[-1]), message.get("more_body", False)
        if size > MOST_BYTES:
            raise RefusedError(413, "the request is too large")
    return b"".join(chunks)


async def _answer(send: Send, status: int, reason: str) -> None:
    content = json.dumps({"detail": f"Refused by label_guard: {reason}."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
