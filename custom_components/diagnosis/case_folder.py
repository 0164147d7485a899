"""The folder of a case: `<case>.incomplete` until everything is in it, then `<case>`."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.files.atomic import remove_left_behind
from custom_components.files.disk_errors import named_when_not_written
from custom_components.files.lock import held_alone

# Of a finished case; in an unfinished folder it is complete when no ``MANIFEST`` is there.
REPORT = "report.json"
# Of an unfinished one: what is there already, and what failed.
MANIFEST = "incomplete.json"
# In both: SHA-256 that tells the scan from others of its name.
SCAN = "scan_sha256"
SUFFIX = ".incomplete"


def unfinished(target: Path) -> Path:
    """Folder of a case that is not finished.

    Args:
        target: folder of the case when it is.

    Example:
        >>> unfinished(Path("results/012")).as_posix()
        'results/012.incomplete'
    """
    return target.with_name(target.name + SUFFIX)


def is_finished(target: Path) -> bool:
    """Whether a case is finished."""
    return (target / REPORT).is_file()


def scan_of(target: Path) -> str:
    """What tells the scan whose results are there, finished or not; empty when there are none or they do not tell.

    Args:
        target: folder of the case when it is finished.
    """
    for path in (target / REPORT, unfinished(target) / MANIFEST):
        try:
            return str(json.loads(path.read_text(encoding="utf-8")).get(SCAN) or "")
        except (OSError, ValueError, AttributeError):  # not there, or changed by somebody
            continue
    return ""


@contextmanager
def case_folder(target: Path) -> Iterator[Path | None]:
    """Yield the unfinished folder of a case, which becomes ``target`` when the block ends without an error.

    What an earlier run left in it is there again. After an error it stays with the results in it, or is removed when
    there are none. One process at a time works on a case.

    Args:
        target: folder of the case.

    Yields:
        The folder; None when the case was finished in the meantime.

    Raises:
        ValueError: when another process works on this case.
        NotWrittenError: when the folder cannot be made or moved.
    """
    folder = unfinished(target)
    with held_alone(target.with_name(f".{target.name}.lock")) as is_held:
        if not is_held:
            raise ValueError(
                "Another process works on this case in the same output folder. Wait for it, and run the same command."
            )
        if is_finished(target):
            yield None
            return
        with named_when_not_written(folder):
            folder.mkdir(exist_ok=True)
        remove_left_behind(target.parent, target.name)  # of versions that began a case under another name
        remove_left_behind(folder)
        try:
            yield None if _only_to_be_moved(folder) else folder
            with named_when_not_written(target):
                _publish(folder, target)
        finally:
            if not holds_results(folder):
                shutil.rmtree(folder, ignore_errors=True)


def holds_results(folder: Path) -> bool:
    """Whether an unfinished folder holds more than a list of what it lacks."""
    return any(path.is_file() and path.name != MANIFEST for path in folder.rglob("*"))


def _only_to_be_moved(folder: Path) -> bool:
    """Whether an earlier run was ended after its last file, when the folder was to be moved."""
    return (folder / REPORT).is_file() and not (folder / MANIFEST).exists()


def _publish(folder: Path, target: Path) -> None:
    """Move the folder of a case to its place; into one that is there, file by file, the report last."""
    try:
        folder.replace(target)
        return
    except OSError:  # a folder that is not empty
        pass
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == REPORT)
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(folder)
