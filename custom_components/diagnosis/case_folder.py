"""The folder of a case: `<case>.incomplete` until everything is in it, then `<case>`."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.files.atomic import remove_left_behind
from custom_components.files.disk_errors import named_when_not_written
from custom_components.files.lock import held_alone

# A finished case has this file. An unfinished folder with it, but without ``MANIFEST``, is complete.
REPORT = "report.json"
# What a person opens first, if the case has it.
PAGE = "report.html"
# List of the results and failures of an unfinished case.
MANIFEST = "incomplete.json"
# Entry of both files: SHA-256 that distinguishes scans of the same name.
SCAN = "scan_sha256"
SUFFIX = ".incomplete"


class BusyCaseError(ValueError):
    """Another process works on a case."""


def unfinished(target: Path) -> Path:
    """Folder of an unfinished case, from its folder when finished.

    Example:
        >>> unfinished(Path("results/012")).as_posix()
        'results/012.incomplete'
    """
    return target.with_name(target.name + SUFFIX)


def is_finished(target: Path) -> bool:
    """Whether a case is finished."""
    return (target / REPORT).is_file()


def finished_cases(output_dir: Path) -> list[Path]:
    """Folders of the finished cases of an output folder, from any run."""
    return [path for path in output_dir.iterdir() if path.suffix != SUFFIX and is_finished(path)]


def scan_of(target: Path) -> str:
    """SHA-256 of the scan that the results of a case were computed from; empty without results or if unknown."""
    for path in (target / REPORT, unfinished(target) / MANIFEST):
        try:
            return str(json.loads(path.read_text(encoding="utf-8")).get(SCAN) or "")
        except (OSError, ValueError, AttributeError):  # missing or damaged
            continue
    return ""


@contextmanager
def case_folder(target: Path) -> Iterator[Path | None]:
    """Yield the unfinished folder of a case, which becomes ``target`` when the block ends without an error.

    It still has the results of an earlier run. After an error, the folder is kept if it has results and removed
    otherwise. Only one process works on a case.

    Args:
        target: folder of the finished case.

    Yields:
        The folder; None if the case is finished already.

    Raises:
        BusyCaseError: when another process works on this case.
        NotWrittenError: when the folder cannot be created or moved.
    """
    folder = unfinished(target)
    with held_alone(target.with_name(f".{target.name}.lock")) as is_held:
        if not is_held:
            raise BusyCaseError(
                "Another process works on this case in the same output folder. Wait until it ends, then run the same "
                "command again."
            )
        if is_finished(target):
            yield None
            return
        with named_when_not_written(folder):
            folder.mkdir(exist_ok=True)
        remove_left_behind(target.parent, target.name)  # of versions that used another temporary name
        remove_left_behind(folder, is_held=True)
        is_complete = (folder / REPORT).is_file() and not (folder / MANIFEST).exists()  # only the move is missing
        try:
            yield None if is_complete else folder
            with named_when_not_written(target):
                _publish(folder, target)
        finally:
            if not any(path.is_file() and path.name != MANIFEST for path in folder.rglob("*")):
                shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    """Move the folder of a case to its place; if that exists, file by file and the report last."""
    try:
        folder.replace(target)
        return
    except OSError:  # target is not empty
        pass
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == REPORT)
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(folder)
