"""Scans one after the other: a bad one is reported and the rest go on; what is finished is not done again."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from custom_components.datalists.case_files import natural_key
from custom_components.datalists.case_problems import can_be_file_name
from custom_components.diagnosis.case_folder import case_folder, is_finished, scan_of, unfinished
from custom_components.diagnosis.scan_source import EXPECTED, NOT_ALONE, ScanSource
from custom_components.dicom.identifiers import raw_uid
from custom_components.dicom.series import holds_dicom
from custom_components.dicom.study import dicom_files, patient_of, readable_image
from custom_components.engines.case_evaluator import raise_out_of_memory
from custom_components.engines.root_cause import root_cause
from custom_components.files.atomic import writable_folder
from custom_components.images.ct_reader import NIFTI_SUFFIXES

_logger = logging.getLogger(__name__)


@dataclass
class QueueResult:
    """What became of the scans.

    Args:
        done: cases that were finished now.
        skipped: cases that had been finished before.
        failed: reason by case; a scan that could not be named goes by its place in the queue.
        seconds: that the queue took.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def scans_an_hour(self) -> float:
        """How many scans as those that were finished now an hour has room for; those skipped took no time."""
        return 3600 * len(self.done) / self.seconds if self.seconds else 0.0


def scan_sources(path: str | Path) -> list[ScanSource]:
    """List the scans of a file or folder.

    Args:
        path: a NIfTI file; a folder of one DICOM study or series; or a folder of NIfTI files and of folders with one
            study each, at any depth.

    Returns:
        The scans in natural order of their names. No two folders of one study are two scans.

    Raises:
        ValueError: when there is nothing of the kind.
    """
    given = Path(path).expanduser()
    if not given.exists():
        raise ValueError(f"{given} does not exist. {EXPECTED}.")
    if given.is_file():
        if not _is_nifti(given):
            raise ValueError(f"{given.name} is a file of another kind. {EXPECTED}.")
        return [ScanSource(given)]
    volumes = [child for child in _children(given) if child.is_file() and _is_nifti(child)]
    sources = [ScanSource(found) for found in (*volumes, *_studies(given))]
    if not sources:
        raise ValueError(f"{given} holds neither NIfTI files nor DICOM studies. {EXPECTED}.")
    return sources


def run_queue(
    sources: Sequence[ScanSource], output_dir: str | Path, process: Callable[[ScanSource, Path], None]
) -> QueueResult:
    """Process scans in their order, each into ``<output_dir>/<case>``.

    The files of a case are written into ``<case>.incomplete``, which becomes ``<case>`` when ``process`` has ended
    without an error, and stays for the next run otherwise. A case whose report is there already is skipped. A scan
    whose name another scan has, such as two series with one SeriesInstanceUID, gets a name of its own.

    Args:
        sources: the scans.
        output_dir: folder that gets a folder for each case.
        process: writes the files of a scan into a folder, ``report.json`` among them; files of an earlier run may be
            there.

    Returns:
        What became of them.

    Raises:
        ValueError: when ``output_dir`` cannot be written to.
    """
    target, result = writable_folder(output_dir), QueueResult()
    named: dict[str, Path] = {}
    started = time.monotonic()
    for number, given in enumerate(sources, start=1):
        place, source = f"{number} of {len(sources)}", replace(given)  # what a source has read goes with it
        try:
            source = _named_apart(source, target, named)
            _one(source, target, process, result, place)
        except Exception as error:
            raise_out_of_memory(error)
            name = _name(source, place)
            result.failed[name] = _reason(error, source, name)
            _logger.error("Case %s failed: %s", name, result.failed[name])
            if (kept := unfinished(target / name)).is_dir():
                _logger.error("Case %s: its results so far are in %s. The same command resumes it", name, kept)
    result.seconds = time.monotonic() - started
    return result


def _named_apart(source: ScanSource, target: Path, named: dict[str, Path]) -> ScanSource:
    """The scan under a name that no other scan has, here or in an earlier run; ``named`` holds those of this run."""
    case = source.case_id
    there = ScanSource(named[case]).sha256 if case in named else scan_of(target / case)
    if there and there != source.sha256:
        source = replace(source, suffix=f"_{source.sha256[:12]}")
        _logger.warning("Case %s: %s. It is called %s here", case, NOT_ALONE, source.case_id)
    named[source.case_id] = source.path
    return source


def _one(
    source: ScanSource, target: Path, process: Callable[[ScanSource, Path], None], result: QueueResult, place: str
) -> None:
    case = source.case_id
    if not can_be_file_name(case):
        raise ValueError("No folder can be named after this scan. Rename it: letters and digits, 200 bytes at most.")
    if is_finished(target / case):
        result.skipped.append(case)
        _logger.info("Case %s (%s) was finished before: skipped. Remove its folder to do it again", case, place)
        return
    with case_folder(target / case) as folder:
        if folder is not None:
            process(source, folder)
    result.done.append(case)
    _logger.info("Case %s (%s) is finished: %s", case, place, target / case / "report.html")


def _reason(error: Exception, source: ScanSource, name: str) -> str:
    """Why a scan failed, without the name of its folder, which may be the patient's."""
    reason = root_cause(error, name)
    return reason if _is_nifti(source.path) else reason.replace(str(source.path), "<the folder of the scan>")


def _name(source: ScanSource, place: str) -> str:
    """Name of a scan that failed. A folder's name is not told, it may be the patient's."""
    try:
        return source.case_id
    except Exception:
        return f"input {place}, in the order of their names"


def _studies(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Folders of one study each; a link back to a folder above is not followed."""
    above |= {folder.resolve()}
    if holds_dicom(folder):
        yield folder
        return
    inside = [child for child in _children(folder) if child.is_dir() and child.resolve() not in above]
    firsts = {child: next(dicom_files(child), None) for child in inside}
    children = {child: first for child, first in firsts.items() if first is not None}
    if len(children) > 1 and len({_study(first) for first in children.values()}) == 1:
        yield folder
        return
    for child in children:
        yield from _studies(child, above)


def _study(path: Path) -> tuple[str, ...]:
    """What tells the study of a file from others: its UID and the patient; without a UID its own path."""
    image = readable_image(path)
    uid = "" if image is None else raw_uid(image.header, "StudyInstanceUID")
    return (uid, patient_of(image.header)) if image is not None and uid else (str(path),)


def _children(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI_SUFFIXES)
