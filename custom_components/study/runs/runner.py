"""Execute the runs of a study: each as a process of its own, what is finished not again, what can go on goes on."""

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import custom_components
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.run import Run, check_plan
from custom_components.study.runs.run_folder import (
    LOG,
    can_resume,
    failure_reason,
    finished_seconds,
    mark_started,
    missing_outputs,
    stamp_done,
)
from custom_components.study.runs.run_times import in_words, seconds_left
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

TIED_PROCESS = Path(__file__).with_name("tied_process.py")
POLL_S, PATIENCE_S = 0.1, 10.0

_logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What became of the runs of a study.

    Args:
        seconds: that each finished run took, by its name.
        before: names of those that had been finished before.
        failed: those that were not finished, in the order in which that was found.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    failed: list[FailedRun] = field(default_factory=list)

    def has(self, run: Run) -> bool:
        """Whether a run is finished."""
        return run.name in self.seconds


@dataclass
class _Job:
    """A run that is being executed."""

    run: Run
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    inputs: ExitStack
    started_s: float

    def end(self) -> None:
        """End the process, if need be by force."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.log.close()
        self.inputs.close()


class Runner:
    """Executes runs, as many at once as there are workers.

    A run that fails is recorded, those that need it are left out, and the others go on. A run that is stopped leaves
    nothing that looks finished: it starts anew the next time, in an emptied folder, unless it may be resumed.

    Args:
        workers: environment of each of the runs that are executed at once.
        lock: descriptor that the processes inherit.
        resume_runs: whether an interrupted training goes on from its newest checkpoint.
        keep_checkpoints: whether to keep what a run needs no more.
        command_of: command line of a run, and whether it is resumed: an interpreter, ``-m``, a module and arguments.
    """

    def __init__(
        self,
        workers: Sequence[dict[str, str]] = ({},),
        lock: int | None = None,
        resume_runs: bool = False,
        keep_checkpoints: bool = False,
        command_of: Callable[[Run, bool], list[str]] = Run.command,
    ) -> None:
        self.workers, self.lock, self.command_of = list(workers), lock, command_of
        self.resume_runs, self.keep_checkpoints = resume_runs, keep_checkpoints

    def execute(self, runs: Sequence[Run], hashes: Mapping[str, str], outcome: Outcome | None = None) -> Outcome:
        """Execute what is not finished.

        Args:
            runs: in an order in which each follows those that it needs.
            hashes: of the runs, by name.
            outcome: of runs that were executed earlier, which these may need.

        Returns:
            What became of these and of the earlier ones.

        Raises:
            ValueError: when a run needs one that is not there.
        """
        outcome = outcome or Outcome()
        earlier = {*outcome.seconds, *(failed.name for failed in outcome.failed)}
        check_plan(runs, earlier)
        waiting = _unfinished(runs, hashes, outcome)
        kinds = {run.name: run.kind for run in runs}
        jobs: list[_Job] = []
        with _progress(len(runs), len(runs) - len(waiting)) as bar, _ended(jobs):
            while waiting or jobs:
                _leave_out_dependents(waiting, outcome, bar)
                self._start(waiting, jobs, hashes, outcome)
                left_s = seconds_left([*waiting, *(job.run for job in jobs)], outcome.seconds, kinds, len(self.workers))
                _show(bar, jobs, outcome, left_s)
                self._finish(jobs, hashes, outcome, bar)
        return outcome

    def _start(self, waiting: list[Run], jobs: list[_Job], hashes: Mapping[str, str], outcome: Outcome) -> None:
        """Give each free worker the first run that has all it needs."""
        free = list(self.workers)
        for job in jobs:
            free.remove(job.environment)
        for environment in free:
            ready = next((run for run in waiting if all(name in outcome.seconds for name in run.needs)), None)
            if ready is None:
                return
            waiting.remove(ready)
            jobs.append(self._job(ready, hashes[ready.name], environment))

    def _job(self, run: Run, run_hash: str, environment: dict[str, str]) -> _Job:
        resume = self.resume_runs and can_resume(run, run_hash)
        mark_started(run, run_hash, resume)
        command = self.command_of(run, resume)
        inputs = ExitStack()
        inputs.enter_context(run.inputs())
        log = (run.folder / LOG).open("ab")
        process = subprocess.Popen(
            [command[0], "-P", str(TIED_PROCESS), *command[1:]],
            cwd=run.folder,
            env={**os.environ, **_child_environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if self.lock is None else (self.lock,),
            start_new_session=True,  # Ctrl-C reaches the study alone, which ends its runs
        )
        return _Job(run, environment, process, log, inputs, time.monotonic())

    def _finish(self, jobs: list[_Job], hashes: Mapping[str, str], outcome: Outcome, bar: tqdm) -> None:
        """Take in what has ended; if nothing has, wait a little."""
        ended = [job for job in jobs if job.process.poll() is not None]
        if jobs and not ended:
            time.sleep(POLL_S)
        for job in ended:
            job.end()
            jobs.remove(job)
            self._take_in(job, hashes[job.run.name], outcome)
            bar.update()

    def _take_in(self, job: _Job, run_hash: str, outcome: Outcome) -> None:
        run, status = job.run, job.process.returncode
        missing = missing_outputs(run)
        if status != 0 or missing:
            reason = failure_reason(run.folder, status) if status else f"ended without {missing[0]}"
            outcome.failed.append(FailedRun(run.name, reason))
            _logger.error("Run %s failed: %s", run.name, reason)
            return
        outcome.seconds[run.name] = time.monotonic() - job.started_s
        stamp_done(run, run_hash, outcome.seconds[run.name], self.keep_checkpoints)


def _unfinished(runs: Sequence[Run], hashes: Mapping[str, str], outcome: Outcome) -> list[Run]:
    """Runs to execute; the others are put into the outcome."""
    waiting = []
    for run in runs:
        seconds = finished_seconds(run, hashes[run.name])
        if seconds is None:
            waiting.append(run)
        else:
            outcome.seconds[run.name] = seconds
            outcome.before.append(run.name)
    return waiting


def _leave_out_dependents(waiting: list[Run], outcome: Outcome, bar: tqdm) -> None:
    failed = {run.name for run in outcome.failed}
    for run in list(waiting):
        lost = next((name for name in run.needs if name in failed), None)
        if lost is not None:
            waiting.remove(run)
            failed.add(run.name)
            outcome.failed.append(FailedRun(run.name, f"not run, since {lost} failed"))
            bar.update()


def _child_environment() -> dict[str, str]:
    """The runs use this package, also where a bundle brings another copy; their logs hold no progress bars."""
    root = str(Path(custom_components.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "TQDM_DISABLE": "1"}


@contextmanager
def _progress(total: int, finished: int) -> Iterator[tqdm]:
    with logging_redirect_tqdm(), tqdm(total=total, initial=finished, desc="Study", unit="run") as bar:
        yield bar


@contextmanager
def _ended(jobs: list[_Job]) -> Iterator[None]:
    """End what is still running on the way out."""
    try:
        yield
    finally:
        for job in jobs:
            job.end()


def _show(bar: tqdm, jobs: Sequence[_Job], outcome: Outcome, left_s: float | None) -> None:
    now = ", ".join(job.run.name for job in jobs)
    text = f"{now}; failed: {len(outcome.failed)}; left: {in_words(left_s)}"
    if text != bar.postfix:
        bar.set_postfix_str(text)
