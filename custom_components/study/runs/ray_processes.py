"""Run the processes of a study as tasks of a Ray cluster, each with its GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from custom_components.cluster.connection import ClusterOptions, connected, count_places, gpus_of_a_worker
from custom_components.files.digest import file_digest
from custom_components.study.runs.fingerprints import code_state
from custom_components.study.runs.node_run import run_lock, wait_until_free
from custom_components.study.runs.processes import Launch
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_folder import LOG, STARTED

ATTEMPTS = 4
LOST = f"The node or worker of this run was lost {ATTEMPTS} times. The usual cause is too little memory."


@contextmanager
def ray_launch(options: ClusterOptions) -> Iterator[tuple[Launch, int]]:
    """Connect to a cluster, for the runs of a study.

    Args:
        options: address of the cluster, number and size of the parallel runs.

    Yields:
        Function that starts the process of a run on a node, and the number of runs that fit at a time.

    Raises:
        ValueError: when the cluster cannot be used, or no run fits into any of its nodes.
    """
    with connected(options.address) as ray:
        count = options.workers or count_places(ray, options.cores)
        task = _task(ray).options(num_cpus=options.cores, num_gpus=gpus_of_a_worker(ray), max_retries=0)
        yield partial(RayProcess, ray, task), count


class RayProcess:
    """The process of a run on a node; started again on another one if its worker or node is lost.

    Args:
        ray: the module, connected.
        task: remote function that runs a command.
        run: the run.
        begin: prepares the folder of the run and returns its command.
        environment: unused; Ray assigns the GPUs.
        lock: unused; the run's own lock is held on its node.
    """

    def __init__(
        self,
        ray: ModuleType,
        task: Any,
        run: Run,
        begin: Callable[[], list[str]],
        environment: Mapping[str, str],
        lock: int | None,
    ) -> None:
        self._ray, self._task, self._run, self._begin = ray, task, run, begin
        self._attempts, self._status = 0, None
        self._submit()

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        if self._status is None and self._ray.wait([self._ref], timeout=0)[0]:
            try:
                status, problem = self._ray.get(self._ref)
            except self._ray.exceptions.RayError:
                if self._attempts < ATTEMPTS:
                    self._submit()
                    return None
                status, problem = 1, LOST
            self._status = status
            if problem:
                with (self._run.folder / LOG).open("a", encoding="utf-8") as log:
                    log.write(f"{problem}\n")
        return self._status

    def end(self) -> None:
        """End the process if it runs."""
        if self._status is None:
            self._ray.cancel(self._ref, force=True)

    def _submit(self) -> None:
        self._attempts += 1
        wait_until_free(run_lock(self._run.folder))
        command = self._begin()
        files = [*self._run.config_paths, str(self._run.folder / STARTED)]
        digests = {file: file_digest(Path(file)) for file in files}
        self._ref = self._task.remote(command[1:], str(self._run.folder), code_state(), digests)


def _task(ray: ModuleType) -> Any:
    """The remote function; Ray sends its code and not only its name, so that a node without this package can say so."""

    def run_on_node(command: list[str], folder: str, code: dict[str, str], digests: dict[str, str]) -> tuple[int, str]:
        from pathlib import Path

        try:
            from custom_components.study.runs.node_run import run_here as run
        except ImportError as error:
            return 1, f"A node lacks this package: {error}. Install the same versions on all nodes."
        return run(command, Path(folder), code, digests)

    return ray.remote(run_on_node)
