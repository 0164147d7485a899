import locale
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import monai.bundle
import pytest
import torch
from hypothesis import settings

from tests.written_images import _real_data, hu, write_ct_image, write_nifti, write_png, write_series  # noqa: F401

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Each test draws the same numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _ctrl_c_is_not_ignored():
    """A program that was started in the background may ignore it, and so do those that it starts."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture(autouse=True)
def _same_encoding():
    """A library may leave the plain C locale behind, with which torch cannot read its own sources."""
    earlier = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, earlier)


@pytest.fixture
def command_line(monkeypatch, caplog) -> Callable[..., int]:
    """`python -m custom_components` within this process; the exit status."""

    def call(*words: object) -> int:
        from custom_components.__main__ import main  # with all that the verbs import

        caplog.set_level(logging.INFO)
        monkeypatch.setattr(sys, "argv", ["custom_components", *map(str, words)])
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    return call


@pytest.fixture
def bundle_line(monkeypatch, caplog) -> Callable[..., int]:
    """`python -m monai.bundle` within this process, its logging left as it is; the exit status."""

    def call(*words: object) -> int:
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(sys, "argv", [monai.bundle.__path__[0] + "/__main__.py", *map(str, words)])
        try:
            runpy.run_module("monai.bundle", run_name="__main__", alter_sys=False)
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    return call


@pytest.fixture(scope="session")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"needs a browser to print with: {', '.join(names)}")
    return found


@pytest.fixture(scope="session")
def firefox() -> str:
    found = next((path for path in map(shutil.which, ("firefox", "firefox-esr")) if path), None)
    if found is None:
        pytest.skip("needs Firefox")
    return found


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A screen that nobody sees, on which Firefox has WebGL."""
    if (program := shutil.which("Xvfb")) is None:
        pytest.skip("needs Xvfb, without which Firefox has no WebGL")
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", "1400x1000x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as screen:
        os.close(write)
        yield f":{os.read(read, 16).decode().strip()}"
        screen.kill()
