"""Apply a function to many cases by workers of a Ray cluster: each loads once and has one case at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from custom_components.cluster.connection import ClusterOptions, connected, count_places, gpus_of_a_worker
from custom_components.cluster.versions import code_versions
from custom_components.cluster.worker import Work, worker_class

# A case is given up after its worker ended twice. If the whole node was lost, which is seldom the fault of the case,
# it has more attempts.
ATTEMPTS, ATTEMPTS_AT_LOST_NODES = 2, 4
# Workers that may end in a row while they load.
LOADS = 3
POLL_S, GROW_S, PATIENCE_S = 0.5, 10.0, 60.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What became of a case.

    Args:
        case: the case.
        result: result of the function.
        lost: why there is no result; empty if there is one.
    """

    case: Any
    result: Any = None
    lost: str = ""


@dataclass(eq=False)
class _Worker:
    actor: Any
    check: Any
    node: str = ""
    name: str = ""


@dataclass
class _Task:
    case: Any
    nodes: list[str] = field(default_factory=list)  # of the workers that ended with this case
    names: list[str] = field(default_factory=list)


@contextmanager
def ray_pool(work: Work, options: ClusterOptions) -> Iterator[RayPool]:
    """Connect to a cluster and yield workers on it, which end with the block.

    Args:
        work: what each worker loads, and the function it applies.
        options: address of the cluster, number and size of the workers.

    Raises:
        ValueError: when the cluster cannot be used, or one of its nodes does not fit.
    """
    with connected(options.address) as ray:
        pool = RayPool(ray, work, options)
        try:
            yield pool
        finally:
            pool.close()


class RayPool:
    """Workers on a Ray cluster.

    Cases are taken from the given iterable only when a worker is free, so that it may be long. A case whose worker
    ends, by a fault of the program or with its node, is repeated by another worker, preferably on another node. The
    ended worker is replaced as soon as the cluster has a place for it.

    Args:
        ray: the module, connected.
        work: what each worker loads, and the function it applies.
        options: number and size of the workers.

    Raises:
        ValueError: when no worker fits into any node.
    """

    def __init__(self, ray: ModuleType, work: Work, options: ClusterOptions) -> None:
        self._ray, self._options = ray, options
        self._work, self._versions = ray.put(work), code_versions()
        self._class = worker_class(ray)
        self._idle: list[_Worker] = []
        self._loading: dict[Any, _Worker] = {}
        self._busy: dict[Any, tuple[_Worker, _Task]] = {}
        self._count, self._counted_s, self._ended_loading = 0, -GROW_S, 0
        self._first: tuple[str, str] | None = None
        self._grow()

    def results(self, cases: Iterable[Any]) -> Iterator[Answer]:
        """Apply the function to cases.

        Args:
            cases: the cases; read one by one, as workers become free.

        Yields:
            The answers, in the order in which they are ready.

        Raises:
            ValueError: when a node does not fit, or workers repeatedly end while they load.
        """
        left, again = iter(cases), deque[_Task]()
        is_read, seen_s = False, time.monotonic()
        while True:
            self._grow()
            while self._idle and not (is_read and not again):
                task = again.popleft() if again else _next_task(left)
                if task is None:
                    is_read = True
                else:
                    self._submit(task)
            if is_read and not again and not self._busy:
                return
            ready, _ = self._ray.wait([*self._loading, *self._busy], num_returns=1, timeout=POLL_S)
            if ready or self._busy:
                seen_s = time.monotonic()
            elif time.monotonic() - seen_s > PATIENCE_S:
                seen_s = time.monotonic()
                _logger.warning("The cluster has no place for a worker. Waiting for a node; Ctrl-C stops.")
            for ref in ready:
                if ref in self._loading:
                    self._take_in(ref)
                elif answer := self._answer(ref, again):
                    yield answer

    def close(self) -> None:
        """End all workers."""
        for worker in (*self._idle, *self._loading.values(), *(worker for worker, _ in self._busy.values())):
            self._ray.kill(worker.actor)
        self._idle, self._loading, self._busy = [], {}, {}

    def _grow(self) -> None:
        """Replace ended workers, and add some for new nodes unless their number is given."""
        if time.monotonic() - self._counted_s > GROW_S:
            self._counted_s = time.monotonic()
            self._count = self._options.workers or max(self._count, self._fitting())
        for _ in range(self._count - len(self._idle) - len(self._loading) - len(self._busy)):
            gpus = gpus_of_a_worker(self._ray)
            actor = self._class.options(num_cpus=self._options.cores, num_gpus=gpus).remote()
            worker = _Worker(actor, actor.check.remote(self._versions))
            self._loading[actor.load.remote(self._work)] = worker

    def _fitting(self) -> int:
        """Workers that fit into the nodes; once there were any, also none."""
        try:
            return count_places(self._ray, self._options.cores)
        except ValueError:
            if not self._count:
                raise
            return 0

    def _submit(self, task: _Task) -> None:
        worker = next((worker for worker in self._idle if worker.node not in task.nodes), self._idle[0])
        self._idle.remove(worker)
        self._busy[worker.actor.run.remote(task.case)] = (worker, task)

    def _take_in(self, ref: Any) -> None:
        """A worker that has loaded."""
        worker = self._loading.pop(ref)
        try:
            found = self._ray.get(worker.check)
            _raise_if_unfit(found["name"], found["problem"])
            problem, arithmetic = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self._ended_loading += 1
            if self._ended_loading >= LOADS:
                raise ValueError(
                    f"{LOADS} workers in a row ended while they loaded ({type(error).__name__}). The usual cause is "
                    "too little memory: give each more cores (--cores), so that fewer share a node."
                ) from error
            self._ray.kill(worker.actor)
            return
        _raise_if_unfit(found["name"], problem)
        self._first = self._first or (found["name"], arithmetic)
        if arithmetic != self._first[1]:
            raise ValueError(
                f"Node {found['name']} computes with {arithmetic}, node {self._first[0]} with {self._first[1]}, so "
                "results would depend on the node. Use equal nodes, or --precision fp32."
            )
        self._ended_loading = 0
        worker.node, worker.name = found["node"], found["name"]
        self._idle.append(worker)

    def _answer(self, ref: Any, again: deque[_Task]) -> Answer | None:
        """Answer of a worker; None if it ended and the case is to be repeated."""
        worker, task = self._busy.pop(ref)
        try:
            result = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            _logger.debug("A worker on %s ended", worker.name, exc_info=error)
            self._ray.kill(worker.actor)
            task.nodes.append(worker.node)
            task.names.append(worker.name)
            is_lost = worker.node not in {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
            if len(task.nodes) < (ATTEMPTS_AT_LOST_NODES if is_lost else ATTEMPTS):
                again.append(task)
                return None
            return Answer(task.case, lost=_why_lost(task))
        self._idle.append(worker)
        return Answer(task.case, result)


def _raise_if_unfit(name: str, problem: str) -> None:
    if problem:
        raise ValueError(f"Node {name} cannot work: {problem}")


def _next_task(cases: Iterator[Any]) -> _Task | None:
    for case in cases:
        return _Task(case)
    return None


def _why_lost(task: _Task) -> str:
    return (
        f"its worker ended {len(task.names)} times (on {', '.join(task.names)}). The usual cause is too little memory: "
        "give each worker more cores (--cores), so that fewer share a node."
    )
