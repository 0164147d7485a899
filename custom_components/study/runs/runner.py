"""Execute the runs of a study, each in its own process; skip finished runs and continue after failures."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.processes import Launch, Process, launch_here
from custom_components.study.runs.run import Run, check_plan
from custom_components.study.runs.run_folder import (
    can_resume,
    failure_reason,
    finished_seconds,
    mark_started,
    missing_outputs,
    stamp_done,
)
from custom_components.study.runs.run_times import in_words, seconds_left
from custom_components.study.runs.schedule import next_ready
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

POLL_S = 0.1

_logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """Outcome of the runs of a study.

    Args:
        seconds: durations of the finished runs, by name.
        before: names of runs that were already finished.
        failed: runs that did not finish, in order of failure.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    failed: list[FailedRun] = field(default_factory=list)

    def has(self, run: Run) -> bool:
        """Whether a run has finished."""
        return run.name in self.seconds


@dataclass
class _Job:
    """A run in execution."""

    run: Run
    environment: dict[str, str]
    process: Process
    inputs: ExitStack
    started_s: float

    def end(self) -> None:
        """End the process and remove its temporary inputs."""
        self.process.end()
        self.inputs.close()


class Runner:
    """Execute runs, in parallel on all workers.

    A failed run is recorded, the runs that need it are skipped, and the others continue. A stopped run is never taken
    for finished: the next start repeats it in an emptied folder, unless it can be resumed.

    Args:
        workers: environment variables of each parallel run.
        lock: file descriptor of the lock, inherited by the processes.
        resume_runs: whether an interrupted training resumes from its newest checkpoint.
        keep_checkpoints: whether to keep disposable files.
        command_of: function from a run, and whether it is resumed, to its command line: interpreter, ``-m``, module
            and arguments.
        launch: starts the process of a run, here or on a node of a cluster.
    """

    def __init__(
        self,
        workers: Sequence[dict[str, str]] = ({},),
        lock: int | None = None,
        resume_runs: bool = False,
        keep_checkpoints: bool = False,
        command_of: Callable[[Run, bool], list[str]] = Run.command,
        launch: Launch = launch_here,
    ) -> None:
        self.workers, self.lock, self.command_of = list(workers), lock, command_of
        self.resume_runs, self.keep_checkpoints, self.launch = resume_runs, keep_checkpoints, launch

    def execute(self, runs: Sequence[Run], hashes: Mapping[str, str], outcome: Outcome | None = None) -> Outcome:
        """Execute the runs that are not finished.

        Args:
            runs: runs, each after those that it needs.
            hashes: run name to hash.
            outcome: outcome of earlier runs, which these may need.

        Returns:
            Outcome of these and the earlier runs.

        Raises:
            ValueError: if a run needs a run that is not planned.
        """
        outcome = outcome or Outcome()
        earlier = {*outcome.seconds, *(failed.name for failed in outcome.failed)}
        check_plan(runs, earlier)
        waiting = _unfinished(runs, hashes, outcome)
        kinds = {run.name: run.kind for run in runs}
        jobs: list[_Job] = []
        progress = tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="Study", unit="run")
        with logging_redirect_tqdm(), progress as bar:
            try:
                while waiting or jobs:
                    _leave_out_dependents(waiting, outcome, bar)
                    self._start(waiting, jobs, hashes, outcome)
                    left = [*waiting, *(job.run for job in jobs)]
                    _show(bar, jobs, outcome, seconds_left(left, outcome.seconds, kinds, len(self.workers)))
                    self._finish(jobs, hashes, outcome, bar)
            finally:
                for job in jobs:
                    job.end()
        return outcome

    def _start(self, waiting: list[Run], jobs: list[_Job], hashes: Mapping[str, str], outcome: Outcome) -> None:
        """Start the next ready run on each free worker."""
        free = list(self.workers)
        for job in jobs:
            free.remove(job.environment)
        for environment in free:
            ready = next_ready(waiting, outcome.seconds)
            if ready is None:
                return
            waiting.remove(ready)
            jobs.append(self._job(ready, hashes[ready.name], environment))

    def _job(self, run: Run, run_hash: str, environment: dict[str, str]) -> _Job:
        inputs = ExitStack()

        def begin() -> list[str]:
            resume = self.resume_runs and can_resume(run, run_hash)
            mark_started(run, run_hash, resume)
            inputs.close()  # of a lost attempt
            inputs.enter_context(run.inputs())
            return self.command_of(run, resume)

        process = self.launch(run, begin, environment, self.lock)
        return _Job(run, environment, process, inputs, time.monotonic())

    def _finish(self, jobs: list[_Job], hashes: Mapping[str, str], outcome: Outcome, bar: tqdm) -> None:
        """Collect ended runs; wait briefly if there are none."""
        ended = [job for job in jobs if job.process.poll() is not None]
        if jobs and not ended:
            time.sleep(POLL_S)
        for job in ended:
            job.end()
            jobs.remove(job)
            self._take_in(job, hashes[job.run.name], outcome)
            bar.update()

    def _take_in(self, job: _Job, run_hash: str, outcome: Outcome) -> None:
        run, status = job.run, job.process.poll()
        missing = missing_outputs(run)
        if status != 0 or missing:
            reason = failure_reason(run.folder, status) if status else f"ended without writing {missing[0]}"
            outcome.failed.append(FailedRun(run.name, reason))
            _logger.error("Run %s failed: %s", run.name, reason)
            return
        outcome.seconds[run.name] = time.monotonic() - job.started_s
        stamp_done(run, run_hash, outcome.seconds[run.name], self.keep_checkpoints)


def _unfinished(runs: Sequence[Run], hashes: Mapping[str, str], outcome: Outcome) -> list[Run]:
    """Runs to execute; finished runs are added to the outcome."""
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
            outcome.failed.append(FailedRun(run.name, f"not run because {lost} failed"))
            bar.update()


def _show(bar: tqdm, jobs: Sequence[_Job], outcome: Outcome, left_s: float | None) -> None:
    now = ", ".join(job.run.name for job in jobs)
    text = f"{now}; failed: {len(outcome.failed)}; left: {in_words(left_s)}"
    if text != bar.postfix:
        bar.set_postfix_str(text)
