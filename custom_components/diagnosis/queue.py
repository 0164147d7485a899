"""Process scans one after the other: failures are reported and the queue continues; finished cases are skipped."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import natural_key
from custom_components.datalists.case_problems import can_be_file_name
from custom_components.diagnosis.case_folder import PAGE, BusyCaseError, case_folder, is_finished, scan_of, unfinished
from custom_components.diagnosis.scan_source import EXPECTED, NOT_ALONE, ScanSource, is_nifti
from custom_components.dicom.identifiers import raw_uid
from custom_components.dicom.series import holds_dicom
from custom_components.dicom.study import dicom_files, patient_of, readable_image
from custom_components.engines.case_evaluator import raise_out_of_memory
from custom_components.engines.root_cause import root_cause
from custom_components.files.atomic import writable_folder

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one scan.

    Args:
        case: name of the case; of a scan without a name, its position in the queue.
        reason: why it failed; empty if it is finished.
        is_skipped: whether it was finished in an earlier run.
        is_busy: whether it failed because another process works on it.
        seconds: wall-clock seconds of its stages.
        notes: sentences on the finished case, for the log.
    """

    case: str
    reason: str = ""
    is_skipped: bool = False
    is_busy: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class QueueResult:
    """Result of a queue.

    Args:
        done: cases finished in this run.
        skipped: cases finished in an earlier run.
        failed: reason by case; a scan without a name is listed by its position in the queue.
        paths: file or folder of each scan by case.
        seconds: duration of the run.
        count: number of scans.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    count: int = 0

    def add(self, outcome: CaseOutcome, target: Path, place: str) -> None:
        """Add the outcome of a scan and log it.

        Args:
            outcome: what became of the scan.
            target: folder of the folders of the cases.
            place: position of the scan in the queue.
        """
        case = outcome.case
        self.count += 1
        if outcome.reason:
            self.failed[case] = outcome.reason
            _logger.error("Case %s failed: %s", case, outcome.reason)
            if (kept := unfinished(target / case)).is_dir():
                _logger.error("Case %s: its results so far are in %s. Run the same command to continue", case, kept)
        elif outcome.is_skipped:
            self.skipped.append(case)
            again = "Remove its folder to repeat it"
            _logger.info("Case %s (%s): skipped, finished in an earlier run. %s", case, place, again)
        else:
            self.done.append(case)
            page = target / case / PAGE
            _logger.info("Case %s (%s) is finished: %s", case, place, page if page.is_file() else page.parent)

    @property
    def scans_an_hour(self) -> float:
        """Scans per hour, from those finished in this run; skipped scans take no time."""
        return 3600 * len(self.done) / self.seconds if self.seconds else 0.0

    def log(self) -> None:
        """Log how many scans are finished, how long this took, and why the others failed."""
        before = f", {len(self.skipped)} of them in an earlier run" if self.skipped else ""
        _logger.info("%d of %d scans finished%s", len(self.done) + len(self.skipped), self.count, before)
        if self.done:
            rate = f", {self.scans_an_hour:.0f} scans an hour" if len(self.done) > 1 else ""
            _logger.info("%.0f s in all%s", self.seconds, rate)
        if self.failed:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in self.failed.items())
            _logger.error("%d of %d scans failed:%s", len(self.failed), self.count, reasons)


def scan_sources(path: str | Path) -> list[ScanSource]:
    """List the scans of a file or folder: all of :func:`iter_sources`."""
    return list(iter_sources(path))


def iter_sources(path: str | Path) -> Iterator[ScanSource]:
    """Find the scans of a file or folder one by one, so that the first can be processed before the last is found.

    Args:
        path: a NIfTI file; a folder of one DICOM study or series; or a folder of NIfTI files and of folders with one
            study each, at any depth.

    Yields:
        The scans in natural order of their names. A study in several folders is one scan.

    Raises:
        ValueError: when there is no scan.
    """
    given = Path(path).expanduser()
    if not given.exists():
        raise ValueError(f"{given} does not exist. {EXPECTED}.")
    if given.is_file():
        if not is_nifti(given):
            raise ValueError(f"The type of {given.name} is not supported. {EXPECTED}.")
        yield ScanSource(given)
        return
    is_empty = True
    volumes = (child for child in _children(given) if is_nifti(child) and child.is_file())
    for found in itertools.chain(volumes, _studies(given)):
        is_empty = False
        yield ScanSource(found)
    if is_empty:
        raise ValueError(f"{given} contains neither NIfTI files nor DICOM studies. {EXPECTED}.")


def run_queue(
    sources: Sequence[ScanSource], output_dir: str | Path, process: Callable[[ScanSource, Path], Any]
) -> QueueResult:
    """Process scans in the given order, each into ``<output_dir>/<case>``.

    The files of a case are written to ``<case>.incomplete``, which becomes ``<case>`` when ``process`` ends without
    an error, and is kept for the next run otherwise. A case with a report is skipped. If two scans have the same name,
    such as two series with one SeriesInstanceUID, one of them gets another name. A scan that was given its name fails
    instead, if the finished case of this name has another scan.

    Args:
        sources: the scans.
        output_dir: folder for the folders of the cases.
        process: writes the files of a scan, including ``report.json``, into a folder that may contain files of an
            earlier run.

    Returns:
        Finished, skipped and failed cases.

    Raises:
        ValueError: when ``output_dir`` cannot be written to.
    """
    target, result = writable_folder(output_dir), QueueResult()
    started = time.monotonic()
    for number, source in enumerate(sources, start=1):
        place = f"{number} of {len(sources)}"
        result.add(process_scan(source, target, process, result.paths, place), target, place)
    result.seconds = time.monotonic() - started
    return result


def process_scan(
    given: ScanSource, target: Path, process: Callable[[ScanSource, Path], Any], named: dict[str, Path], place: str
) -> CaseOutcome:
    """Process one scan of a queue; an error becomes the reason of its failure, but out of memory is raised.

    Args:
        given: the scan.
        target: folder for the folders of the cases.
        process: as in :func:`run_queue`; may return sentences on the case, for the log.
        named: file or folder by case, of the scans before this one; it is added.
        place: position of the scan in the queue.

    Returns:
        What became of the scan.
    """
    source = replace(given)  # a copy, so that what it reads can be freed
    try:
        source = _with_unique_name(source, target, named)
        return _process_one(source, target, process)
    except Exception as error:
        raise_out_of_memory(error)
        name = scan_name(source, place)
        reason = root_cause(error, name)
        if not is_nifti(source.path):  # the name of a DICOM folder may be the patient's
            reason = reason.replace(str(source.path), "<the folder of the scan>")
        return CaseOutcome(name, reason, is_busy=isinstance(error, BusyCaseError))


def _with_unique_name(source: ScanSource, target: Path, named: dict[str, Path]) -> ScanSource:
    """The scan with a name that no other scan has, in this run (``named``) or an earlier one."""
    case = source.case_id
    other = ScanSource(named[case]).sha256 if case in named else scan_of(target / case)
    if other and other != source.sha256 and source.name:
        if is_finished(target / case):
            raise ValueError("The results in the output folder are of another scan. Remove its folder to repeat it.")
    elif other and other != source.sha256:
        source = replace(source, suffix=f"_{source.sha256[:12]}")
        _logger.warning("Case %s: %s. Its name in the results is %s", case, NOT_ALONE, source.case_id)
    named[source.case_id] = source.path
    return source


def _process_one(source: ScanSource, target: Path, process: Callable[[ScanSource, Path], Any]) -> CaseOutcome:
    case = source.case_id
    if not can_be_file_name(case):
        raise ValueError("The name of this scan cannot be a folder name. Rename it: letters and digits, 200 bytes.")
    if is_finished(target / case):
        return CaseOutcome(case, is_skipped=True)
    notes: Any = None
    with case_folder(target / case) as folder:
        if folder is not None:
            notes = process(source, folder)
    return CaseOutcome(case, seconds=source.clock.seconds, notes=tuple(notes or ()))


def scan_name(source: ScanSource, place: str) -> str:
    """Name of a scan that failed, never that of its folder, which may be the patient's."""
    try:
        return source.case_id
    except Exception:
        return f"input {place}, in the order of their names"


def _studies(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Folders of one study each; links to a parent folder are not followed."""
    above |= {folder.resolve()}
    if holds_dicom(folder):
        yield folder
        return
    if _is_one_study(_folders(folder, above)):
        yield folder
        return
    for child in _folders(folder, above):
        if next(dicom_files(child), None) is not None:
            yield from _studies(child, above)


def _is_one_study(folders: Iterable[Path]) -> bool:
    """Whether several of the folders have DICOM files, all of one study; the second study ends the search."""
    firsts = (next(dicom_files(folder), None) for folder in folders)
    studies = (_study(first) for first in firsts if first is not None)
    one, second = next(studies, None), next(studies, None)
    return second is not None and one == second and all(other == one for other in studies)


def _study(path: Path) -> tuple[str, ...]:
    """Identity of a file's study: UID and patient, or the path of the file if there is no UID."""
    image = readable_image(path)
    uid = "" if image is None else raw_uid(image.header, "StudyInstanceUID")
    return (uid, patient_of(image.header)) if image is not None and uid else (str(path),)


def _folders(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    return (child for child in _children(folder) if child.is_dir() and child.resolve() not in above)


def _children(folder: Path) -> Iterator[Path]:
    names = sorted((path.name for path in folder.iterdir() if path.name[0] != "."), key=natural_key)
    return (folder / name for name in names)
