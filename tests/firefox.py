"""A page in Firefox, used as a person would, by its Marionette protocol: no further library."""

import json
import os
import socket
import subprocess
import time
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.browser import Page

PREFERENCES = {
    "marionette.port": 0,  # any that is free, written into the profile
    "webgl.force-enabled": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
KEYS = dict(
    zip(
        ("PageUp", "PageDown", "ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"),
        "\ue00e\ue00f\ue012\ue013\ue014\ue015",
        strict=True,
    )
)


class Firefox(Page):
    """One page in Firefox. Without a screen it has no WebGL: give it one, such as Xvfb's."""

    def __init__(self, firefox: str, profile: Path, size: tuple[int, int] = (1280, 800), display: str = "") -> None:
        profile.mkdir(parents=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
        command = [firefox, "--marionette", "-remote-allow-system-access", "--no-remote", "--profile", str(profile)]
        command += [f"--width={size[0]}", f"--height={size[1]}", *([] if display else ["--headless"]), "about:blank"]
        environment = os.environ | {"LIBGL_ALWAYS_SOFTWARE": "1", "MOZ_DISABLE_AUTO_SAFE_MODE": "1"}
        environment |= {"DISPLAY": display} if display else {}
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._socket = socket.create_connection(("127.0.0.1", _port_of(profile, self._process)))
        self._buffer, self._id = b"", 0
        self._next()  # the greeting
        self.call("WebDriver:NewSession", pageLoadStrategy="none")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> Any:
        """Result of a command of the protocol."""
        self._id += 1
        message = json.dumps([0, self._id, method, parameters]).encode()
        self._socket.sendall(str(len(message)).encode() + b":" + message)
        _, number, error, result = self._next()
        assert number == self._id
        assert error is None, error
        return result

    def _next(self) -> Any:
        while b":" not in self._buffer:
            self._receive()
        length, _, self._buffer = self._buffer.partition(b":")
        while len(self._buffer) < int(length):
            self._receive()
        message, self._buffer = self._buffer[: int(length)], self._buffer[int(length) :]
        return json.loads(message)

    def _receive(self) -> None:
        part = self._socket.recv(1 << 20)
        assert part, "the browser has ended"
        self._buffer += part

    @property
    def complaints(self) -> list[str]:
        """Errors of the page, by the browser's own console."""
        self.call("Marionette:SetContext", value="chrome")
        script = "return Services.console.getMessageArray().map(one => one.message)"
        messages = self.call("WebDriver:ExecuteScript", script=script, args=[])["value"]
        self.call("Marionette:SetContext", value="content")
        return [text for text in messages if '"file:' in text and ("Error:" in text or "Content-Security" in text)]

    @property
    def requests(self) -> list[str]:
        loaded = self.value("performance.getEntriesByType('resource').map(one => one.name)")
        return [self.value("location.href"), *loaded]

    def _navigate(self, address: str) -> None:
        self.call("WebDriver:Navigate", url=address)

    def value(self, expression: str) -> Any:
        script = f"return eval({json.dumps(expression)})"
        return self.call("WebDriver:ExecuteScript", script=script, args=[])["value"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self._point("mouse", start, end)

    def touch(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self._point("touch", start, end)

    def _point(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        steps = [(start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])) for share in (0.5, 1)]
        moves = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0} for x, y in (start, *steps)]
        press, release = ({"type": name, "button": 0} for name in ("pointerDown", "pointerUp"))
        actions = [moves[0], press, *moves[1:], release]
        pointer = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self.call("WebDriver:PerformActions", actions=[pointer])

    def key(self, key: str) -> None:
        actions = [{"type": kind, "value": KEYS.get(key, key)} for kind in ("keyDown", "keyUp")]
        self.call("WebDriver:PerformActions", actions=[{"type": "key", "id": "keys", "actions": actions}])

    def picture(self, selector: str = "") -> bytes:
        element: dict[str, Any] = {}
        if selector:
            found = self.call("WebDriver:FindElement", using="css selector", value=selector)["value"]
            element = {"id": next(iter(found.values()))}
        return b64decode(self.call("WebDriver:TakeScreenshot", full=False, **element)["value"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        paper = {"width": 21.0, "height": 29.7}  # A4, in cm
        return b64decode(self.call("WebDriver:Print", page=paper, background=True)["value"])


def _port_of(profile: Path, process: subprocess.Popen[bytes], seconds: float = 120) -> int:
    end = time.monotonic() + seconds
    while not (file := profile / "MarionetteActivePort").is_file() or not file.read_text():
        assert process.poll() is None, "Firefox has ended"
        assert time.monotonic() < end, f"Firefox did not start within {seconds} s"
        time.sleep(0.1)
    return int(file.read_text())
