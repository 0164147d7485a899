"""A lock file that lets one process at a time do a piece of work."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Hold a lock file while the block runs; the system releases the lock whenever the process ends.

    Args:
        path: lock file; created if missing, and removed afterwards.

    Yields:
        True when this process holds the lock; False, without waiting, when another process holds it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "case.lock"
        >>> with held_alone(path) as first, held_alone(path) as second:
        ...     print(first, second)
        True False
        >>> path.exists()
        False
    """
    while True:
        with path.open("a", encoding="utf-8") as lock:
            if not _take(lock):
                yield False
                return
            if not _is_at(lock, path):  # the previous holder removed it: the next process creates a new one
                continue
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _take(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
