"""Errors of full, read-only or missing disks, with the file that was being written and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FREE, _PERMIT = "Free space, or choose another folder", "Make it writable, or choose another folder"
_CHECK = "Check the disk, or choose another folder"
# What to do for each error number.
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
# Errors that concern the file being written, even when they do not name it.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# PyTorch's messages for a failed write; they do not give the reason.
_TORCH_WRITER = re.compile(r"PytorchStreamWriter|inline_container|^Parent directory .* does not exist")

_LEAST_BYTES = 2**20

_folders: dict[Path, None] = {}


class NotWrittenError(OSError):
    """A file or folder could not be written; the message names it and says what to do."""


@contextmanager
def named_when_not_written(target: Path) -> Iterator[None]:
    """Replace a disk error with one that names the file or folder being written and says what to do.

    Args:
        target: final path of the file or folder.

    Raises:
        NotWrittenError: instead of the disk error; other errors pass unchanged.

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
        named = NotWrittenError(f"{target} could not be written: {reason}. {REMEDIES[number]}.")
        named.errno = number
        raise named from error


def remember_folder(folder: Path) -> None:
    """Remember a folder that this process writes into, for :func:`full_folders`."""
    _folders[folder.absolute()] = None


def full_folders() -> list[Path]:
    """Folders remembered by this process that are on a full disk (less than 1 MB free)."""
    return [folder for folder in _folders if folder.is_dir() and shutil.disk_usage(folder).free < _LEAST_BYTES]


def _disk_error(error: OSError | RuntimeError, target: Path) -> tuple[int, str] | None:
    """Error number and text of a disk error; None for any other error."""
    if not isinstance(error, OSError):
        if not _TORCH_WRITER.search(str(error)):
            return None
        there = target.parent.is_dir()
        return (errno.ENOSPC, "the disk is full, or the file is too large for it") if there else _words(errno.ENOENT)
    if error.errno in _OF_WRITING:
        return _words(error.errno)
    own = error.filename is not None and Path(str(error.filename)).is_relative_to(target.parent)
    return _words(error.errno) if own and error.errno in REMEDIES else None


def _words(number: int) -> tuple[int, str]:
    return number, os.strerror(number)
