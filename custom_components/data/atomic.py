import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.data.disk_errors import named_when_not_written, remember_folder
from custom_components.data.left_behind import temporary_beside


def writable_folder(path: str | Path) -> Path:
    """Make a folder and prove, before any work is done, that files can be written into it.

    Args:
        path: folder; made with its parents when it does not exist.

    Returns:
        The folder.

    Raises:
        ValueError: when it cannot be made or written into, or its disk is full.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as proof:
            proof.write(b"0")
    except OSError as error:
        raise ValueError(
            f"Output folder {folder} cannot be written to ({error.strerror}). "
            "Name another folder, or free space and set its permissions."
        ) from error
    remember_folder(folder)
    return folder


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success rename it to ``path``, on failure remove it.

    Whoever reads ``path`` sees the old file or the whole new one, never half of it.
    The temporary name keeps the suffixes, since writers choose their format by them. What a process that was killed
    left of the same file is removed.

    Args:
        path: final name of the file.

    Yields:
        The name to write to.

    Raises:
        NotWrittenError: naming ``path``, when the disk is full, read-only or gone.

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
