"""The folder of a study: one bundle's, and one program's at a time."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.files.atomic import writable_folder
from custom_components.files.report_files import write_json

MARK, LOCK = "study.json", "study.lock"
CACHE, DATA_HASHES = "cache", "data_hashes.json"
WAIT_S = 10.0


def check_study_folder(output_dir: Path, bundle: str) -> None:
    """Refuse a folder that holds anything but a study of this bundle.

    Args:
        output_dir: it need not exist.
        bundle: name of the bundle's folder.

    Raises:
        ValueError: when it holds other files, or another bundle's study.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    mark = output_dir / MARK
    if not mark.is_file():
        raise ValueError(f"Output folder {output_dir} holds files that are no study. Name a new or an empty folder.")
    found = json.loads(mark.read_text(encoding="utf-8"))["bundle"]
    if found != bundle:
        raise ValueError(f"Output folder {output_dir} holds a study of {found}. Name another one for {bundle}.")


@contextmanager
def study_folder(output_dir: Path, bundle: str, wait_s: float = WAIT_S) -> Iterator[int]:
    """Mark a folder as a study's and keep other programs from working in it.

    Args:
        output_dir: made when it does not exist.
        bundle: name of the bundle's folder.
        wait_s: how long to wait for a run that a killed study left behind.

    Yields:
        The descriptor of the lock. A process that inherits it holds the lock too.

    Raises:
        ValueError: when it cannot be written into, holds anything else, or is in use.
    """
    check_study_folder(output_dir, bundle)
    writable_folder(output_dir)
    write_json(output_dir / MARK, {"bundle": bundle})
    with (output_dir / LOCK).open("a", encoding="utf-8") as lock:
        _hold(lock.fileno(), output_dir, time.monotonic() + wait_s)
        yield lock.fileno()


def _hold(descriptor: int, output_dir: Path, until_s: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise ValueError(
                    f"Another study, or a run of one, is at work in {output_dir}. Wait for it, end it, or name "
                    "another folder."
                ) from None
            time.sleep(0.1)
