import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from custom_components.files.atomic import temporary_beside, writable_folder

CACHE_VARIABLE = "COVID_PHANTOM_CACHE"


def cached_folder(name: str, write: Callable[[Path], object]) -> Path:
    """Folder of phantoms in the cache; written if it does not exist.

    Args:
        name: name of the folder, unique for its content.
        write: writes the content into an empty folder.

    Returns:
        A folder under ``$COVID_PHANTOM_CACHE`` or, if that is not set, under the system's folder for temporary files.
        It is always complete, even if several processes call this at the same time.

    Raises:
        ValueError: when the cache folder cannot be written to, or as raised by ``write``.
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
        draft.rename(final)  # never replaces a folder with files
    except OSError:
        if not final.is_dir():  # otherwise another process has written it
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final
