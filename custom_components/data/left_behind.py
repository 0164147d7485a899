"""Names for what is not complete yet, and the removal of what processes that were killed left under them."""

import hashlib
import os
import re
import shutil
import socket
from functools import cache
from pathlib import Path

_PARTIAL = re.compile(r"\.partial-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-(?P<name>.+)", re.DOTALL)


def temporary_beside(target: Path) -> Path:
    """Name for what is to become ``target``; what killed processes left there under such a name is removed.

    Args:
        target: final name of a file or folder, in a folder that exists.

    Returns:
        A hidden name in the same folder that tells of this machine and process.
    """
    remove_left_behind(target.parent, target.name)
    return target.with_name(f".partial-{_machine()}-{os.getpid()}-{target.name}")


def remove_left_behind(folder: Path, name: str | None = None) -> None:
    """Remove temporary files and folders of processes that live no more, and of no others.

    What another machine (or container) began is left alone: its processes cannot be asked for here.

    Args:
        folder: where they are.
        name: what they would have become; None is anything.
    """
    for path in folder.glob(".partial-*"):
        found = _PARTIAL.fullmatch(path.name)
        if found is None or name not in (None, found["name"]) or found["machine"] != _machine():
            continue
        if _is_alive(int(found["process"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Tells apart machines and containers, each of which counts processes of its own."""
    namespace = Path("/proc/self/ns/pid")
    own = namespace.readlink() if namespace.is_symlink() else ""
    return hashlib.sha256(f"{socket.gethostname()} {own}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
