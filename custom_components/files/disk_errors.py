"""Disks that are full, read-only or gone: errors that name what was being written, and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FREE, _PERMIT = "Free space, or choose another folder", "Make it writable, or choose another folder"
_CHECK = "Check the disk, or choose another folder"
# What a disk says when it does not take a file, and what to do then.
REMEDIES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: "The file size limit is reached (ulimit -f): raise it, or choose another folder",
    errno.EROFS: _PERMIT,
    errno.EACCES: _PERMIT,
    errno.EPERM: _PERMIT,
    errno.ENOENT: "Its folder was removed: keep the folder until the program ends",
    errno.EIO: _CHECK,
    errno.ESTALE: _CHECK,
}
# Those of the file that is written, even when they name none.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# How PyTorch's writer of files tells that it could not; it does not tell why.
_TORCH_WRITER = re.compile(r"PytorchStreamWriter|inline_container|^Parent directory .* does not exist")

_LEAST_BYTES = 2**20

_folders: dict[Path, None] = {}


class NotWrittenError(OSError):
    """A file or folder that could not be written; the message names it and says what to do."""


@contextmanager
def named_when_not_written(target: Path) -> Iterator[None]:
    """Let an error of the disk name the file or folder that is being written, and say what to do.

    Args:
        target: its final name.

    Raises:
        NotWrittenError: in place of the disk's own error; other errors pass.

    Example:
        >>> try:
        ...     with named_when_not_written(Path("report.json")):
        ...         raise OSError(errno.ENOSPC, "No space left on device")
        ... except NotWrittenError as error:
        ...     print(error)
        report.json could not be written: No space left on device. Free space, or choose another folder.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = _disk_error(error, target)
        if found is None:
            raise
        number, reason = found
        told = NotWrittenError(f"{target} could not be written: {reason}. {REMEDIES[number]}.")
        told.errno = number
        raise told from error


def remember_folder(folder: Path) -> None:
    """Note a folder that this process writes into, for :func:`full_folders`."""
    _folders[folder.absolute()] = None


def full_folders() -> list[Path]:
    """Folders that this process writes into and whose disk is full: less than 1 MB is free."""
    return [folder for folder in _folders if folder.is_dir() and shutil.disk_usage(folder).free < _LEAST_BYTES]


def _disk_error(error: OSError | RuntimeError, target: Path) -> tuple[int, str] | None:
    """Number and words of an error of the disk; None for an error that has to do with anything else."""
    if not isinstance(error, OSError):
        if not _TORCH_WRITER.search(str(error)):
            return None
        there = target.parent.is_dir()
        return (errno.ENOSPC, "the disk is full, or takes no file of that size") if there else _words(errno.ENOENT)
    if error.errno in _OF_WRITING:
        return _words(error.errno)
    own = error.filename is not None and Path(str(error.filename)).is_relative_to(target.parent)
    return _words(error.errno) if own and error.errno in REMEDIES else None


def _words(number: int) -> tuple[int, str]:
    return number, os.strerror(number)
