"""Process the scans of a queue on a cluster; the folders of the cases are as those of the local queue."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from custom_components.cluster.connection import ClusterOptions
from custom_components.cluster.pool import RayPool, ray_pool
from custom_components.cluster.versions import differences
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.queue import CaseOutcome, QueueResult, process_scan, scan_name
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.atomic import writable_folder
from custom_components.files.lock import held_alone
from custom_components.inferers.autocast_inferer import cpu_computes_bfloat16

# Held by the command that uses an output folder; has a random word, by which a node recognises the folder.
LOCK = ".cluster.lock"
# How long a case is tried again that another process works on, such as one on a node that was taken for lost.
BUSY_S, BUSY_PAUSE_S = 120.0, 2.0
SLOWEST = 5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkFiles:
    """The networks of a diagnosis, to be loaded by each worker.

    Args:
        arguments: arguments of :class:`Diagnosis`.
        settings: hashes of the files and options that the networks must have.
    """

    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]

    def load(self) -> Diagnosis:
        """Load the networks.

        Raises:
            ValueError: when weights or configs are missing, or differ from those of the command.
        """
        networks = Diagnosis(**self.arguments)
        if odd := differences(self.settings, networks.all_settings()):
            raise ValueError(f"{odd}. Give all nodes the same weights and bundles.")
        return networks

    def arithmetic(self) -> str:
        """Number format and device of the networks on this computer."""
        precision = self.arguments.get("precision", "auto")
        if torch.cuda.is_available():
            return "float32 on a GPU" if precision == "fp32" else "float16 on a GPU"
        has_half = precision == "bf16" or (precision == "auto" and cpu_computes_bfloat16())
        return "bfloat16 on the CPU" if has_half else "float32 on the CPU"


@dataclass(frozen=True)
class ScanWork:
    """What each worker does with a scan.

    Args:
        networks: the networks.
        process: writes the files of a scan into a folder with the networks: arguments scan, folder, networks; may
            return sentences for the log.
        target: folder of the folders of the cases.
        word: content of the lock file in the folder.
    """

    networks: NetworkFiles
    process: Callable[[ScanSource, Path, Diagnosis], Any]
    target: Path
    word: str = ""

    def load(self) -> Callable[[tuple[str, ScanSource]], CaseOutcome]:
        """Load the networks; the function processes a scan with its position in the queue.

        Raises:
            ValueError: when the node sees another output folder, or its networks differ.
        """
        lock = self.target / LOCK
        if not lock.is_file() or lock.read_text(encoding="utf-8") != self.word:
            raise ValueError(f"{self.target} is another folder there. Choose an output folder that all nodes share.")
        networks = self.networks.load()
        return partial(self._apply, networks)

    def arithmetic(self) -> str:
        """Number format and device of the networks on this computer."""
        return self.networks.arithmetic()

    def _apply(self, networks: Diagnosis, scan: tuple[str, ScanSource]) -> CaseOutcome:
        place, source = scan
        return process_scan(source, self.target, lambda own, folder: self.process(own, folder, networks), {}, place)


@dataclass
class ClusterResult(QueueResult):
    """Result of a queue on a cluster.

    Args:
        stage_s: wall-clock seconds of each stage, summed over the cases of this run.
    """

    stage_s: dict[str, float] = field(default_factory=dict)

    def slowest(self) -> list[tuple[str, float]]:
        """The slowest stages and their mean seconds for a case."""
        means = {name: seconds / len(self.done) for name, seconds in self.stage_s.items() if self.done}
        return sorted(means.items(), key=lambda item: -item[1])[:SLOWEST]

    def take(self, outcome: CaseOutcome, target: Path, place: str) -> None:
        """Add and log the outcome of a scan, with its stages."""
        self.add(outcome, target, place)
        for sentence in outcome.notes:
            _logger.info("Case %s: %s", outcome.case, sentence)
        for name, seconds in outcome.seconds.items():
            self.stage_s[name] = self.stage_s.get(name, 0.0) + seconds


def run_cluster_queue(
    sources: Iterable[ScanSource], work: ScanWork, options: ClusterOptions, keep_paths: bool = False
) -> ClusterResult:
    """Process scans on a cluster, each into ``<target>/<case>``, as :func:`run_queue` does one after the other.

    Args:
        sources: the scans; read one by one, as workers become free.
        work: what each worker does.
        options: address of the cluster, number and size of the workers.
        keep_paths: whether the result has the file or folder of each scan.

    Returns:
        Finished, skipped and failed cases.

    Raises:
        ValueError: when the cluster cannot be used, a node does not fit, or another command uses the output folder.
    """
    result, started = ClusterResult(), time.monotonic()
    with _claimed(work) as own, ray_pool(own, options) as pool:
        busy = []
        for scan, outcome in _outcomes(pool, _numbered(sources)):
            if outcome.is_busy:
                busy.append(scan)
            else:
                _add(result, scan, outcome, own.target, keep_paths)
        for scan, outcome in _retried(pool, busy):
            _add(result, scan, outcome, own.target, keep_paths)
    result.seconds = time.monotonic() - started
    for name, seconds in result.slowest():
        _logger.info("%s: %.1f s a scan", name, seconds)
    return result


@contextmanager
def _claimed(work: ScanWork) -> Iterator[ScanWork]:
    """Hold the output folder; its lock file has a random word for the workers."""
    target = writable_folder(work.target.absolute())
    with held_alone(target / LOCK) as is_held:
        if not is_held:
            raise ValueError(f"Another command with --engine ray uses {target}. Wait until it ends, or choose another.")
        own = replace(work, target=target, word=uuid.uuid4().hex)
        (target / LOCK).write_text(own.word, encoding="utf-8")
        yield own


def _numbered(sources: Iterable[ScanSource]) -> Iterator[tuple[str, ScanSource]]:
    for number, source in enumerate(sources, start=1):
        yield str(number), source


def _outcomes(
    pool: RayPool, scans: Iterable[tuple[str, ScanSource]]
) -> Iterator[tuple[tuple[str, ScanSource], CaseOutcome]]:
    for answer in pool.results(scans):
        place, source = answer.case
        yield answer.case, answer.result or CaseOutcome(scan_name(replace(source), place), answer.lost)


def _retried(pool: RayPool, busy: list[tuple[str, ScanSource]]) -> Iterator[tuple[tuple[str, ScanSource], CaseOutcome]]:
    """Outcomes of scans whose case another process was working on, such as a second scan of the same name."""
    until_s = time.monotonic() + BUSY_S
    while busy:
        again = []
        for scan, outcome in _outcomes(pool, busy):
            if outcome.is_busy and time.monotonic() < until_s:
                again.append(scan)
            else:
                yield scan, outcome
        busy = again
        time.sleep(BUSY_PAUSE_S if busy else 0)


def _add(
    result: ClusterResult, scan: tuple[str, ScanSource], outcome: CaseOutcome, target: Path, keep_paths: bool
) -> None:
    place, source = scan
    result.take(outcome, target, place)
    if keep_paths:
        result.paths[outcome.case] = source.path
