"""Uploads to process: what is known about each, kept as JSON beside its files so that a restart finds it again."""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from custom_components.files.report_files import write_json

FOLDER, STATE = "uploads", "job.json"
UPLOADING, WAITING, RUNNING, DONE, FAILED, CANCELLED = "uploading", "waiting", "running", "done", "failed", "cancelled"
UNFINISHED = (UPLOADING, WAITING, RUNNING)
MOST_LABEL = 80

_ID = re.compile(r"[0-9a-f]{32}")

_logger = logging.getLogger(__name__)


@dataclass
class Job:
    """One upload and what has become of it.

    Args:
        id: random name of its folder.
        created: date and time, ISO 8601 in UTC.
        label: the user's own words for it.
        state: ``uploading``, ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        files: number of files that were kept.
        bytes: their size.
        left_out: number of files that are neither NIfTI nor DICOM.
        scans: number of scans that ``diagnose`` found; 0 if not yet known.
        number: place of the current scan among them.
        cases: names of the cases that ``diagnose`` has begun or finished.
        stages: stages of the current scan that have begun.
        errors: reasons of failures, without names of patients.
    """

    id: str
    created: str
    label: str = ""
    state: str = UPLOADING
    files: int = 0
    bytes: int = 0
    left_out: int = 0
    scans: int = 0
    number: int = 0
    cases: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Jobs:
    """The jobs of an output folder, each in ``uploads/<id>``.

    Args:
        output_dir: output folder of ``diagnose``.
    """

    def __init__(self, output_dir: Path) -> None:
        self.folder = output_dir / FOLDER
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._jobs = {job.id: job for job in sorted(self._restored(), key=lambda job: job.created)}

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def get(self, job_id: str) -> Job | None:
        """The job of an id; None if there is none."""
        return self._jobs.get(job_id)

    def new(self, label: str) -> Job:
        """Add a job for an upload that begins.

        Args:
            label: the user's words for it; one line of at most 80 characters is kept.
        """
        words = "".join(letter for letter in " ".join(label.split()) if letter.isprintable())
        job = Job(secrets.token_hex(16), datetime.now(UTC).isoformat(timespec="milliseconds"), words[:MOST_LABEL])
        self.folder_of(job).mkdir(mode=0o700)
        self._jobs[job.id] = job
        self.save(job)
        return job

    def next_waiting(self) -> Job | None:
        """The job that has waited longest."""
        return next((job for job in self if job.state == WAITING), None)

    def save(self, job: Job) -> None:
        """Write what is known about a job; on a full disk, a restart finds what was known before."""
        try:
            write_json(self.folder_of(job) / STATE, asdict(job))
        except OSError as error:
            _logger.warning("Upload %s: %s", job.id[:8], error)

    def remove(self, job: Job) -> None:
        """Remove a job with its uploaded files."""
        self._jobs.pop(job.id, None)
        shutil.rmtree(self.folder_of(job), ignore_errors=True)

    def folder_of(self, job: Job) -> Path:
        """Folder of a job."""
        return self.folder / job.id

    def _restored(self) -> Iterator[Job]:
        """Jobs of an earlier start; those that were interrupted wait again, and incomplete uploads are removed."""
        for folder in self.folder.iterdir():
            if not _ID.fullmatch(folder.name):
                continue
            job = _read(folder / STATE)
            if job is None or job.id != folder.name or job.state == UPLOADING:
                _logger.warning("Upload %s was incomplete and is removed", folder.name[:8])
                shutil.rmtree(folder, ignore_errors=True)
                continue
            if job.state == RUNNING:
                job.state = WAITING
            yield job


def _read(path: Path) -> Job | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Job(**{one.name: content[one.name] for one in fields(Job) if one.name in content})
    except (OSError, ValueError, TypeError):
        return None
