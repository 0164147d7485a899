import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.data.atomic import writable_folder
from custom_components.data.disk_errors import named_when_not_written
from custom_components.data.left_behind import temporary_beside


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``; on success it becomes ``target``, on failure it is removed.

    Args:
        target: new or empty folder.

    Yields:
        The folder to write into.

    Raises:
        ValueError: when the folder holds anything, or cannot be made.
        NotWrittenError: naming ``target``, when the disk is full, read-only or gone.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "set"
        >>> with new_folder(target) as folder:
        ...     _ = (folder / "datalist.json").write_text("{}")
        >>> [file.name for file in target.iterdir()]
        ['datalist.json']
    """
    final = Path(str(target)).expanduser().absolute()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise ValueError(f"Output folder {final} exists and is not empty. Name a new folder.")
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
