"""Process scans one after the other: failures are reported and the queue continues; finished cases are skipped."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from custom_components.datalists.case_files import natural_key
from custom_components.datalists.case_problems import can_be_file_name
from custom_components.diagnosis.case_folder import PAGE, case_folder, is_finished, scan_of, unfinished
from custom_components.diagnosis.scan_source import EXPECTED, NOT_ALONE, ScanSource, is_nifti
from custom_components.dicom.identifiers import raw_uid
from custom_components.dicom.series import holds_dicom
from custom_components.dicom.study import dicom_files, patient_of, readable_image
from custom_components.engines.case_evaluator import raise_out_of_memory
from custom_components.engines.root_cause import root_cause
from custom_components.files.atomic import writable_folder

_logger = logging.getLogger(__name__)


@dataclass
class QueueResult:
    """Result of a queue.

    Args:
        done: cases finished in this run.
        skipped: cases finished in an earlier run.
        failed: reason by case; a scan without a name is listed by its position in the queue.
        paths: file or folder of each scan by case.
        seconds: duration of the run.
    """

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def scans_an_hour(self) -> float:
        """Scans per hour, from those finished in this run; skipped scans take no time."""
        return 3600 * len(self.done) / self.seconds if self.seconds else 0.0

    def log(self, count: int) -> None:
        """Log how many of ``count`` scans are finished, how long this took, and why the others failed."""
        before = f", {len(self.skipped)} of them in an earlier run" if self.skipped else ""
        _logger.info("%d of %d scans finished%s", len(self.done) + len(self.skipped), count, before)
        if self.done:
            rate = f", {self.scans_an_hour:.0f} scans an hour" if len(self.done) > 1 else ""
            _logger.info("%.0f s in all%s", self.seconds, rate)
        if self.failed:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in self.failed.items())
            _logger.error("%d of %d scans failed:%s", len(self.failed), count, reasons)


def scan_sources(path: str | Path) -> list[ScanSource]:
    """List the scans of a file or folder.

    Args:
        path: a NIfTI file; a folder of one DICOM study or series; or a folder of NIfTI files and of folders with one
            study each, at any depth.

    Returns:
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
        return [ScanSource(given)]
    volumes = [child for child in _children(given) if child.is_file() and is_nifti(child)]
    sources = [ScanSource(found) for found in (*volumes, *_studies(given))]
    if not sources:
        raise ValueError(f"{given} contains neither NIfTI files nor DICOM studies. {EXPECTED}.")
    return sources


def run_queue(
    sources: Sequence[ScanSource], output_dir: str | Path, process: Callable[[ScanSource, Path], None]
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
    for number, given in enumerate(sources, start=1):
        place, source = f"{number} of {len(sources)}", replace(given)  # a copy, so that what it reads can be freed
        try:
            source = _with_unique_name(source, target, result.paths)
            _process_one(source, target, process, result, place)
        except Exception as error:
            raise_out_of_memory(error)
            name = _name(source, place)
            reason = root_cause(error, name)
            if not is_nifti(source.path):  # the name of a DICOM folder may be the patient's
                reason = reason.replace(str(source.path), "<the folder of the scan>")
            result.failed[name] = reason
            _logger.error("Case %s failed: %s", name, reason)
            if (kept := unfinished(target / name)).is_dir():
                _logger.error("Case %s: its results so far are in %s. Run the same command to continue", name, kept)
    result.seconds = time.monotonic() - started
    return result


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


def _process_one(
    source: ScanSource, target: Path, process: Callable[[ScanSource, Path], None], result: QueueResult, place: str
) -> None:
    case = source.case_id
    if not can_be_file_name(case):
        raise ValueError("The name of this scan cannot be a folder name. Rename it: letters and digits, 200 bytes.")
    if is_finished(target / case):
        result.skipped.append(case)
        _logger.info("Case %s (%s): skipped, finished in an earlier run. Remove its folder to repeat it", case, place)
        return
    with case_folder(target / case) as folder:
        if folder is not None:
            process(source, folder)
    result.done.append(case)
    page = target / case / PAGE
    _logger.info("Case %s (%s) is finished: %s", case, place, page if page.is_file() else page.parent)


def _name(source: ScanSource, place: str) -> str:
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
    inside = [child for child in _children(folder) if child.is_dir() and child.resolve() not in above]
    firsts = {child: next(dicom_files(child), None) for child in inside}
    children = {child: first for child, first in firsts.items() if first is not None}
    if len(children) > 1 and len({_study(first) for first in children.values()}) == 1:
        yield folder
        return
    for child in children:
        yield from _studies(child, above)


def _study(path: Path) -> tuple[str, ...]:
    """Identity of a file's study: UID and patient, or the path of the file if there is no UID."""
    image = readable_image(path)
    uid = "" if image is None else raw_uid(image.header, "StudyInstanceUID")
    return (uid, patient_of(image.header)) if image is not None and uid else (str(path),)


def _children(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))
