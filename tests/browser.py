"""A page in Chromium, used as a person would: the DevTools protocol through a pipe needs no further library."""

import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from base64 import b64decode
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# WebGL 2 without a graphics card.
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--remote-debugging-pipe", "--hide-scrollbars", *SOFTWARE_GL),
)


class Page(ABC):
    """What a person does with a page, in any browser."""

    @property
    @abstractmethod
    def complaints(self) -> list[str]:
        """Errors and refused loads of the page."""

    @property
    @abstractmethod
    def requests(self) -> list[str]:
        """Addresses that the page has asked for."""

    @abstractmethod
    def value(self, expression: str) -> Any:
        """Value of an expression in the page."""

    @abstractmethod
    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the mouse with its left button held."""

    @abstractmethod
    def touch(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move one finger on the screen."""

    @abstractmethod
    def key(self, key: str) -> None:
        """Press a key."""

    @abstractmethod
    def picture(self, selector: str = "") -> bytes:
        """PNG of an element, or of the page."""

    @abstractmethod
    def _navigate(self, address: str) -> None: ...

    def open(self, path: Path, until: str) -> float:
        """Open a file, as a double click does, and wait; seconds until a condition in JavaScript holds."""
        return self.go(path.as_uri(), until)

    def go(self, address: str, until: str) -> float:
        """The same with an address."""
        started = time.monotonic()
        self._navigate(address)
        self.wait(until)
        return time.monotonic() - started

    def wait(self, until: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self._holds(until):
            assert time.monotonic() < end, f"not within {seconds} s: {until}; {self.complaints}"
            time.sleep(0.05)

    def _holds(self, condition: str) -> bool:
        """Whether a condition holds; it does not while another page is being opened."""
        try:
            return bool(self.value(condition))
        except AssertionError as error:
            if "navigated" not in str(error):
                raise
            return False

    def faults(self) -> list[Any]:
        """Rules of accessibility that elements of the page break (WCAG 2.1 A and AA, good practice), by axe-core."""
        self.value((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8") + ";0")
        assert self.value("axe.run().then(found => found.passes.length)") > 10
        return self.value(
            "axe.run().then(found => found.violations.map(rule => [rule.id, rule.nodes.map(node => node.html)]))"
        )

    def text(self, selector: str) -> str:
        return str(self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    def middle(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """A place within an element, in pixels; it is scrolled into view."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'nearest', inline: 'nearest'});"
            "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
        )
        return box[0] + x * box[2], box[1] + y * box[3]

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        place = self.middle(selector, x, y)
        self.drag(place, place)


class Browser(Page):
    """One page in Chromium."""

    def __init__(self, chromium: str, profile: Path, size: tuple[int, int] = (1280, 800), *options: str) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = [chromium, *OPTIONS, *options, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"]
        shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command, "about:blank"]
        self._process = subprocess.Popen(shell, pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._id, self._session = b"", 0, ""
        self._complaints: list[str] = []
        self._requests: list[str] = []
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def complaints(self) -> list[str]:
        return self._complaints

    @property
    def requests(self) -> list[str]:
        return self._requests

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Result of a command of the protocol."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._id:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(message)
        match answer.get("method"):
            case "Log.entryAdded" if answer["params"]["entry"]["level"] == "error":
                self._complaints.append(answer["params"]["entry"]["text"])
            case "Runtime.exceptionThrown":
                self._complaints.append(json.dumps(answer["params"]["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self._requests.append(answer["params"]["request"]["url"])
        return answer

    def _navigate(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self._mouse("mouseMoved", start)
        self._mouse("mousePressed", start)
        for share in (0.25, 0.5, 0.75, 1.0):
            self._mouse("mouseMoved", (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
        self._mouse("mouseReleased", end)

    def _mouse(self, kind: str, place: tuple[float, float]) -> None:
        held = {
            "button": "none" if kind == "mouseMoved" else "left",
            "clickCount": 1,
            "buttons": kind != "mouseReleased",
        }
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **held | {"buttons": int(held["buttons"])}
        )

    def touch(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.call("Emulation.setTouchEmulationEnabled", enabled=True)
        for kind, places in (("touchStart", [start]), ("touchMove", [end]), ("touchEnd", [])):
            points = [{"x": x, "y": y} for x, y in places]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Emulation.setTouchEmulationEnabled", enabled=False)

    def drop(self, selector: str, *paths: Path) -> None:
        """Drag files and folders over an element and let go."""
        x, y = self.middle(selector)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files in the dialog of an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def key(self, key: str, code: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key)

    def picture(self, selector: str = "") -> bytes:
        options: dict[str, Any] = {}
        if selector:
            (left, top), (right, bottom) = self.middle(selector, 0, 0), self.middle(selector, 1, 1)
            options["clip"] = {"x": left, "y": top, "width": right - left, "height": bottom - top, "scale": 1}
        return b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"])
