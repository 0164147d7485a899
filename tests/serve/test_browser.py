"""The page in a real browser, used as a person would."""

import io
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from custom_components.serve.app import Server
from custom_components.serve.command import listening_socket
from custom_components.serve.guard import Session
from custom_components.serve.limits import Limits

from tests.browser import Browser
from tests.serve.conftest import DICOM, FREE, STANDIN, names_below
from tests.serve.hostile import zip_of

READY = 'document.body?.dataset.ready === "yes"'
NO_UPLOADS = "document.querySelectorAll('[data-job]').length === 0"
# While a stage is shown: what a person sees and hears, kept as `watched`.
WATCHED = """(() => {
    const row = document.querySelector('[data-job]');
    if (!/^scan [12] of 2: (lungs|lesion|report)/.test(row?.querySelector('.words').textContent)) return false;
    const texts = ['.title', '.words', '.quiet'].map(name => row.querySelector(name).textContent);
    window.watched = [...texts, row.querySelector('progress').value, document.getElementById('status').textContent];
    return true;
})()"""
LIMITS = Limits(upload_bytes=10**6, files=500, **FREE)


@pytest.fixture
def running(template, monkeypatch) -> Callable:
    """A server in a thread, on a real socket."""
    monkeypatch.setenv("STANDIN_SECONDS", "0.3")

    @contextmanager
    def call(output_dir: Path, port: int = 0) -> Iterator[Session]:
        output_dir.mkdir(exist_ok=True)
        listener = listening_socket(port)
        session = Session(listener.getsockname()[1])
        server = Server(output_dir, session, [sys.executable, str(STANDIN), str(template)], (), LIMITS, 0.5)
        config = uvicorn.Config(server.app(), log_config=None, access_log=False, timeout_graceful_shutdown=1)
        program = uvicorn.Server(config)
        thread = threading.Thread(target=program.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield session
        finally:
            program.should_exit = True
            thread.join(30)
            listener.close()
            assert not thread.is_alive()

    return call


@pytest.fixture
def browser(chromium, tmp_path) -> Iterator[Browser]:
    with Browser(chromium, tmp_path / "profile", (1400, 1000)) as browser:
        yield browser


@pytest.fixture
def study(tmp_path) -> Path:
    """A study of two series, in folders with names, and more files than a browser lists at a time."""
    folder = tmp_path / "DOE^JANE"
    for series in ("axial", "lung"):
        (folder / series).mkdir(parents=True)
        for number in range(110):
            (folder / series / f"IM{number:04d}").write_bytes(DICOM + series.encode())
    (folder / "viewer.exe").write_bytes(b"MZ")
    return folder


def states(browser: Browser) -> list[str]:
    return browser.value("[...document.querySelectorAll('[data-job]')].map(row => row.dataset.state)")


def wait_for_cases(browser: Browser, count: int) -> None:
    browser.wait(f"document.querySelectorAll('#cases tbody tr').length === {count}")


def button(browser: Browser, scope: str, text: str) -> None:
    """Click the button with a text."""
    find = f"[...document.querySelectorAll('{scope} button')].find(b => b.textContent === '{text}')"
    browser.wait(find + " !== undefined")
    browser.value(f"{find}.id = 'to-click'")
    browser.click("#to-click")
    browser.value("document.getElementById('to-click')?.removeAttribute('id')")


def test_a_dropped_folder_is_sent_watched_saved_and_deleted(running, browser, study, tmp_path):
    out = tmp_path / "out"
    with running(out) as session:
        browser.go(session.address, READY)
        assert browser.value("location.href") == f"http://127.0.0.1:{session.port}/"
        assert browser.value("document.cookie") == ""
        browser.value("document.getElementById('label').value = 'follow-up'")
        browser.drop("#drop", study)
        browser.wait(WATCHED)
        title, words, size, share, status = browser.value("watched")
        assert title.startswith("follow-up, ")
        assert size == "220 files, 0.0 MB; 1 that are neither NIfTI nor DICOM were left out"
        assert 0 < share < 1
        assert status == f"{title}: {words}"
        wait_for_cases(browser, 2)
        browser.wait(NO_UPLOADS)  # the last case is listed a moment before its upload has ended
        assert "DOE" not in browser.text("body")
        browser.value("document.getElementById('search').value = 'FOLLOW-UP nowhere'")
        browser.value("document.getElementById('search').dispatchEvent(new Event('input'))")
        assert browser.text("#nothing") == "No case has all of these words."
        browser.value("document.getElementById('search').value = 'FOLLOW-UP'")
        browser.value("document.getElementById('search').dispatchEvent(new Event('input'))")
        wait_for_cases(browser, 2)
        assert browser.text("#found") == "2 of 2 cases"
        browser.wait("document.querySelector('#cases img').naturalWidth === 208")

        save_all(browser, tmp_path / "saved")
        saved = next((tmp_path / "saved").glob("*.zip"))
        with zipfile.ZipFile(io.BytesIO(saved.read_bytes())) as archive:
            assert archive.testzip() is None
            assert any(name.endswith("dicom/segmentation.dcm") for name in archive.namelist())

        button(browser, "#cases", "Delete")
        browser.wait("document.getElementById('question').open")
        assert "Its upload has other cases" in browser.text("#question-text")
        assert browser.value("document.activeElement.id") == "no"
        browser.click("#no")
        browser.wait("!document.getElementById('question').open")
        assert len(list(out.glob("1.2.*"))) == 2
        for left in (1, 0):
            button(browser, "#cases", "Delete")
            browser.wait("document.getElementById('question').open")
            browser.click("#yes")
            browser.wait(f"document.querySelectorAll('#cases tbody tr').length === {left}")
        assert names_below(out) == []
        assert browser.text("#nothing") == "There are no finished cases yet."
        assert browser.complaints == []
        assert all(address.startswith((session.address.split("?")[0], "data:")) for address in browser.requests)
    assert len(names_below(study)) == 221


def save_all(browser: Browser, folder: Path) -> None:
    folder.mkdir()
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click("#cases summary")
    browser.click("#cases details a")
    end = time.monotonic() + 30
    while not list(folder.glob("*.zip")):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_viewer_and_report_open_work_and_know_nothing_of_the_server(running, browser, tmp_path):
    with running(tmp_path / "out") as session:
        browser.go(session.address, READY)
        scan = tmp_path / "a.nii.gz"
        scan.write_bytes(b"voxels")
        browser.choose("#files", scan)
        wait_for_cases(browser, 1)
        viewer = browser.value("document.querySelector('#cases a[href$=\"viewer.html\"]').href")
        browser.go(viewer, READY)
        assert browser.value("self.origin") == "null"
        assert (
            browser.value("(() => { try { return document.cookie } catch (e) { return e.name } })()") == "SecurityError"
        )
        browser.key("ArrowUp")
        assert "Slice " in browser.text("#where")
        assert browser.complaints == []
        for address in ("/api/state", "/"):
            tried = f"fetch('http://127.0.0.1:{session.port}{address}').then(() => 'read', e => e.name)"
            assert browser.value(tried) == "TypeError"
        browser.complaints.clear()
        browser.click('a[href="report.html"]')
        browser.wait("location.pathname.endsWith('/report.html') && document.images.length > 2")
        assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
        browser.click('a[href="viewer.html"]')
        browser.wait("location.pathname.endsWith('/viewer.html')")
        assert browser.complaints == []


def test_two_at_once_a_zip_file_and_a_scan_that_is_cancelled(running, browser, tmp_path):
    out = tmp_path / "out"
    hanging, packed = tmp_path / "hanging.nii", tmp_path / "packed.zip"
    hanging.write_bytes(b"hang")
    packed.write_bytes(zip_of({"study/1.dcm": DICOM}))
    with running(out) as session:
        browser.go(session.address, READY)
        browser.drop("#drop", hanging)
        browser.wait("document.querySelector('[data-job]')?.dataset.state === 'running'")
        browser.drop("#drop", packed)
        browser.wait("document.querySelectorAll('[data-job]').length === 2")
        browser.wait(
            "[...document.querySelectorAll('[data-job]')].map(r => r.dataset.state).join() === 'running,waiting'"
        )
        assert browser.text("[data-state=waiting] .words") == "waits for its turn"
        button(browser, "[data-state=running]", "Cancel")
        wait_for_cases(browser, 1)
        browser.wait("document.querySelectorAll('[data-job]').length === 1")
        assert states(browser) == ["cancelled"]
        assert not list(out.glob("*.incomplete"))
        button(browser, "[data-state=cancelled]", "Delete")
        browser.wait("document.getElementById('question').open")
        browser.click("#yes")
        browser.wait("document.querySelectorAll('[data-job]').length === 0")
        assert len(list((out / "uploads").iterdir())) == 1
        assert browser.complaints == []


def test_refused_uploads_say_why_and_names_with_script_stay_text(running, browser, tmp_path):
    script = "<img src=x onerror=\"document.documentElement.dataset.ran = 'yes'\">"
    bomb, wrong, large = tmp_path / "bomb.zip", tmp_path / "notes.txt", tmp_path / "large.nii"
    bomb.write_bytes(zip_of({"1.dcm": bytes(9 * 10**5)}))
    wrong.write_text("hello", encoding="utf-8")
    large.write_bytes(bytes(2 * 10**6))
    named = tmp_path / f"{script}.nii"
    named.write_bytes(b"fail")
    with running(tmp_path / "out") as session:
        browser.go(session.address, READY)
        for path, words in (
            (bomb, "100 times its own size"),
            (wrong, "neither a NIfTI file"),
            (large, "may have 0.001 GB"),
        ):
            browser.drop("#drop", path)
            browser.wait(f"document.querySelector('#alert').textContent.includes('{words}')")
            browser.click("#alert button")
            browser.wait("document.querySelectorAll('[data-job]').length === 0")
        browser.value(f"document.getElementById('label').value = {script!r}")
        browser.drop("#drop", named)
        browser.wait("document.querySelector('[data-job]')?.dataset.state === 'failed'")
        assert browser.text("[data-job] .title").startswith("<img src=x")
        assert "No plausible lungs were found." in browser.text("[data-job] .error")
        assert browser.value("document.images.length") == 0
        assert browser.value("document.documentElement.dataset.ran") is None


def test_a_restart_in_the_middle_shows_all_again(running, browser, tmp_path):
    out, scan = tmp_path / "out", tmp_path / "a.nii.gz"
    scan.write_bytes(b"voxels")
    with running(out) as session:
        browser.go(session.address, READY)
        for _ in range(2):
            browser.drop("#drop", scan)
        browser.wait("[...document.querySelectorAll('[data-job]')].some(row => row.dataset.state === 'running')")
        browser.wait("document.querySelectorAll('[data-job]').length === 2")
    browser.wait("document.querySelector('#alert').textContent.includes('does not answer')")
    with running(out) as session:
        browser.go(session.address, READY)
        wait_for_cases(browser, 2)
        browser.wait(NO_UPLOADS)
        assert browser.faults() == []


def test_another_site_in_the_same_browser_changes_nothing(running, browser, tmp_path):
    """A page of another port, which browsers count as the same site, and the cookie goes with its requests."""
    with running(tmp_path / "out") as session, other_site() as address:
        browser.go(session.address, READY)
        browser.go(address, "document.readyState === 'complete'")
        target = f"http://127.0.0.1:{session.port}/api/jobs"
        for options in ("{method: 'POST', mode: 'no-cors', credentials: 'include'}", "{credentials: 'include'}"):
            browser.value(f"fetch('{target}', {options}).catch(() => null).then(() => null)")
        form = f"document.body.innerHTML = '<form method=post action={target}></form>'; document.forms[0].submit()"
        browser.value(form)
        browser.wait(f"location.href === '{target}'")
        assert "came from another site" in browser.text("body")
        assert not list((tmp_path / "out/uploads").iterdir())


@contextmanager
def other_site() -> Iterator[str]:
    """A server of an empty page on another port."""
    with listening_socket(0) as listener:
        listener.listen()
        listener.settimeout(0.2)
        is_over = threading.Event()

        def answer() -> None:
            while not is_over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(1)
                    connection.recv(4096)
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<body>other"
                    )
                    connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        is_over.set()
        thread.join()
