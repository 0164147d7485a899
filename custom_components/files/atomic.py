"""Write files and folders under temporary names, rename them when complete, remove leftovers of killed processes."""

import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from custom_components.files.disk_errors import named_when_not_written, remember_folder

_PARTIAL = re.compile(r"\.partial-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-(?P<name>.+)", re.DOTALL)


def absolute_path(path: str | Path) -> Path:
    """Absolute path without ``~``, which means the same to a process in another folder."""
    return Path(str(path)).expanduser().absolute()


def writable_folder(path: str | Path) -> Path:
    """Create a folder and check that files can be written into it.

    Args:
        path: folder; created with its parents when it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: when the folder cannot be created or written into, or the disk is full.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as proof:
            proof.write(b"0")
    except OSError as error:
        raise ValueError(
            f"Output folder {folder} cannot be written to ({error.strerror}). "
            "Choose another folder, or free space and check its permissions."
        ) from error
    remember_folder(folder)
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; rename it to ``path`` on success, remove it on failure.

    A reader of ``path`` sees the old file or the complete new one, never a partial one.
    The temporary name keeps the suffixes, because writers choose the format by them. Temporary files that a killed
    process left for the same target are removed.

    Args:
        path: final path of the file.

    Yields:
        The path to write to.

    Raises:
        NotWrittenError: names ``path`` when the disk is full, read-only or missing.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "report.json"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("{}")
        >>> [file.name for file in target.parent.iterdir()]
        ['report.json']
    """
    target = Path(path)
    with named_when_not_written(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(target)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def temporary_beside(target: Path) -> Path:
    """Temporary name for ``target``, after removing temporary files that killed processes left for it.

    Args:
        target: final path of a file or folder, in an existing folder.

    Returns:
        A hidden name in the same folder that contains this machine and process.
    """
    remove_left_behind(target.parent, target.name)
    return target.with_name(f".partial-{_machine()}-{os.getpid()}-{target.name}")


def remove_left_behind(folder: Path, name: str | None = None, is_held: bool = False) -> None:
    """Remove temporary files and folders of processes that have ended.

    Those of another machine (or container) are kept, because its processes cannot be checked from here, unless this
    process holds a lock without which no other may write into the folder.

    Args:
        folder: folder to search.
        name: final name of the files to remove; None means any.
        is_held: whether this process holds such a lock.
    """
    for path in folder.glob(".partial-*"):
        found = _PARTIAL.fullmatch(path.name)
        if found is None or name not in (None, found["name"]):
            continue
        if not is_held and (found["machine"] != _machine() or _is_alive(int(found["process"]))):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Identifier of this machine or container, because each numbers its own processes."""
    namespace = Path("/proc/self/ns/pid")
    own = namespace.readlink() if namespace.is_symlink() else ""
    return hashlib.sha256(f"{socket.gethostname()} {own}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # exists, but belongs to another user
        return True
    return True


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; rename it to ``target`` on success, remove it on failure.

    Args:
        target: new or empty folder to create.

    Yields:
        The folder to write into.

    Raises:
        ValueError: when the folder is not empty or cannot be created.
        NotWrittenError: names ``target`` when the disk is full, read-only or missing.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "set"
        >>> with new_folder(target) as folder:
        ...     _ = (folder / "datalist.json").write_text("{}")
        >>> [file.name for file in target.iterdir()]
        ['datalist.json']
    """
    final = absolute_path(target)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise ValueError(f"Output folder {final} exists and is not empty. Choose a new folder.")
    writable_folder(final.parent)
    temporary = temporary_beside(final)
    with named_when_not_written(final):
        try:
            temporary.mkdir()
            yield temporary
            if final.is_dir():
                final.rmdir()
            temporary.replace(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
