import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from custom_components.files.atomic import temporary_beside, writable_folder

CACHE_VARIABLE = "COVID_PHANTOM_CACHE"


def cached_folder(name: str, write: Callable[[Path], object]) -> Path:
    """Give a folder of phantoms, writing it when nobody has yet.

    Args:
        name: of the folder; tells its contents from those of any other.
        write: fills the empty folder that it is given.

    Returns:
        A folder under ``$COVID_PHANTOM_CACHE`` or, without that, under the system's folder for temporary files. It
        appears whole or not at all, also when several processes ask at once.

    Raises:
        ValueError: when the cache folder cannot be written into, or whatever ``write`` raises.
    """
    default = Path(tempfile.gettempdir()) / "covid_phantom"
    cache = writable_folder(os.environ.get(CACHE_VARIABLE) or default)
    final = cache / name
    if final.is_dir():
        return final
    draft = temporary_beside(final)
    draft.mkdir()
    try:
        write(draft)
        draft.chmod(0o755)
        _claim(draft, final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def _claim(draft: Path, final: Path) -> None:
    """Rename ``draft`` to ``final`` unless another process was first: a folder with files in it is never replaced."""
    try:
        draft.rename(final)
    except OSError:
        if not final.is_dir():
            raise
