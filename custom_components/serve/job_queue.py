"""The queue: one job at a time, each by ``diagnose`` in a process of its own."""

import asyncio
import json
import logging
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from custom_components.diagnosis.case_folder import is_finished, unfinished
from custom_components.files.lock import held_alone
from custom_components.serve.jobs import CANCELLED, DONE, FAILED, RUNNING, WAITING, Job, Jobs
from custom_components.serve.uploads import scans_folder

LOG = "log.txt"
# Stage of a DICOM study before the name of its case is known.
FIRST_STAGE = "find the series"
NOT_PROCESSED = "The scan could not be processed ({}). Free memory and disk space, then start it again."
# Longest line that `diagnose` may write, in bytes.
MOST_LINE = 2**22

_logger = logging.getLogger(__name__)


class JobQueue:
    """Processes waiting jobs in the order of their upload.

    Args:
        jobs: the jobs.
        output_dir: output folder of ``diagnose``.
        command: program and arguments that stand before ``SOURCE --output_dir OUTPUT --progress``.
        options: further options of ``diagnose``.
        grace_s: seconds that a process has to end before it is killed.
    """

    def __init__(
        self, jobs: Jobs, output_dir: Path, command: Sequence[str], options: Sequence[str] = (), grace_s: float = 5.0
    ) -> None:
        self.jobs, self.output_dir = jobs, output_dir
        self.command, self.options, self.grace_s = command, options, grace_s
        self._wake = asyncio.Event()
        self._ended: asyncio.Event | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._current: Job | None = None
        self._is_cancelled = False

    def wake(self) -> None:
        """Look for waiting jobs."""
        self._wake.set()

    async def run(self) -> None:
        """Process jobs until this task is cancelled, which ends the current process and leaves its job unfinished."""
        while True:
            self._wake.clear()
            job = self.jobs.next_waiting()
            if job is None:
                await self._wake.wait()
                continue
            await self._run(job)

    async def cancel(self, job: Job) -> None:
        """End the process of a job, or take it out of the queue; unfinished results are removed."""
        if job is self._current and self._ended is not None:
            self._is_cancelled = True
            await asyncio.gather(self._end_process(), self._ended.wait())
        elif job.state == WAITING:
            self._conclude(job, CANCELLED)

    async def _run(self, job: Job) -> None:
        job.state, job.stages, job.errors = RUNNING, [], []
        self.jobs.save(job)
        self._current, self._ended, self._is_cancelled = job, asyncio.Event(), False
        _logger.info("Upload %s: started", job.id[:8])
        try:
            status, failed = await self._diagnose(job)
            if self._is_cancelled:
                self._conclude(job, CANCELLED)
            elif failed is None:
                job.errors = [_last_error(self.jobs.folder_of(job) / LOG, status)]
                self._conclude(job, FAILED)
            else:
                job.errors = list(failed.values())
                self._conclude(job, FAILED if failed else DONE)
        except Exception as error:  # continue with the next job
            _logger.exception("Upload %s", job.id[:8])
            job.errors = [NOT_PROCESSED.format(type(error).__name__)]
            self._conclude(job, FAILED)
        finally:
            self._current = None
            self._ended.set()

    async def _diagnose(self, job: Job) -> tuple[int, dict[str, str] | None]:
        """Exit status, and the reason by case of those that failed; None if the process ended before it told."""
        source = scans_folder(self.jobs.folder_of(job))
        words = [*self.command, str(source), "--output_dir", str(self.output_dir), "--progress", *self.options]
        failed = None
        with (self.jobs.folder_of(job) / LOG).open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                limit=MOST_LINE,
            )
            try:
                if self._is_cancelled:  # before it was started
                    await self._end_process()
                assert self._process.stdout is not None
                async for line in self._process.stdout:
                    event = _event(line)
                    self._note(job, event)
                    failed = event.get("failed", failed)
                return await self._process.wait(), failed
            finally:
                await self._end_process()
                self._process = None

    def _note(self, job: Job, event: dict[str, Any]) -> None:
        if "scans" in event:
            job.scans = event["scans"]
        if event.get("stage") == FIRST_STAGE or "case" in event:  # a NIfTI file has no first stage
            job.stages = [stage for stage in job.stages[-1:] if stage == FIRST_STAGE and "case" in event]
        if "number" in event:
            job.number = event["number"]
        if event.get("stage", "") not in ("", *job.stages):
            job.stages.append(event["stage"])
        new = [event["case"]] if "case" in event else event.get("finished", [])
        if added := [case for case in new if case not in job.cases]:
            job.cases += added
            self.jobs.save(job)

    def _conclude(self, job: Job, state: str) -> None:
        """Set the last state of a job; its cases are those that are finished."""
        if state == CANCELLED:
            for case in job.cases:
                remove_unfinished(self.output_dir / case)
        if state != FAILED:  # whose unfinished cases are continued when it is started again
            job.cases = [case for case in job.cases if is_finished(self.output_dir / case)]
        job.state, job.stages = state, []
        self.jobs.save(job)
        _logger.info("Upload %s: %s", job.id[:8], state)

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        _send(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.grace_s)
        except TimeoutError:
            _send(process.pid, signal.SIGKILL)
            await process.wait()


def remove_unfinished(case: Path) -> None:
    """Remove the unfinished folder of a case, unless another process works on it."""
    with held_alone(case.with_name(f".{case.name}.lock")) as is_held:
        if is_held and not is_finished(case):
            shutil.rmtree(unfinished(case), ignore_errors=True)


def _send(process: int, number: signal.Signals) -> None:
    """Send a signal to a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process, number)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _last_error(log: Path, status: int) -> str:
    """The last error that a process logged, which names no patient."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR ")]
    why = (
        f"signal {signal.Signals(-status).name}, possibly because memory ran out" if status < 0 else f"status {status}"
    )
    return errors[-1] if errors else f"The process ended with {why}. Start it again; its log is in the upload's folder."
