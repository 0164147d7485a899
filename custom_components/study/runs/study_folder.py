"""Folder of a study: for one bundle, used by one program at a time."""

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
    """Check that a folder is empty, new, or a study of this bundle.

    Raises:
        ValueError: if it contains other files or a study of another bundle.
    """
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return
    mark = output_dir / MARK
    if not mark.is_file():
        raise ValueError(
            f"Output folder {output_dir} contains files that are not a study. Choose a new or empty folder."
        )
    found = json.loads(mark.read_text(encoding="utf-8"))["bundle"]
    if found != bundle:
        raise ValueError(f"Output folder {output_dir} contains a study of {found}. Choose another folder for {bundle}.")


@contextmanager
def study_folder(output_dir: Path, bundle: str, wait_s: float = WAIT_S) -> Iterator[int]:
    """Mark a folder as a study and lock it against other programs.

    Args:
        output_dir: folder; created if missing.
        bundle: name of the bundle's folder.
        wait_s: maximum time to wait for a run left by a killed study.

    Yields:
        File descriptor of the lock. A process that inherits it also holds the lock.

    Raises:
        ValueError: if it is not writable, contains anything else, or is in use.
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
                    f"Another study, or a run of it, is using {output_dir}. Wait until it ends, stop it, or choose "
                    "another folder."
                ) from None
            time.sleep(0.1)
