"""Seconds of each stage."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from custom_components.diagnosis.case_folder import MANIFEST, SCAN
from custom_components.diagnosis.scan_files import INTERMEDIATE, read_volume, volume_path, write_volume
from custom_components.engines.case_evaluator import noted_when_unwritten
from custom_components.files.digest import file_digest
from custom_components.files.report_files import write_json

NOTICE = "This case is not finished. Run the same command again: it takes what is here and does what is missing."
# Files written at a time: most of the time goes into compressing, which frees the others.
WRITERS = 2
WRITE = "write NIfTI"
_logger = logging.getLogger(__name__)
T = TypeVar("T")


class StageClock:
    """Measures the stages of one scan: wall-clock and CPU seconds, all threads counted.

    A stage that comes back is added to.

    Example:
        >>> clock = StageClock()
        >>> with clock.stage("read"):
        ...     pass
        >>> list(clock.seconds), clock.table().splitlines()[0]
        (['read'], 'stage         wall s    CPU s')
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu

    def state(self) -> dict[str, tuple[float, float]]:
        """Wall-clock and CPU seconds of each stage so far."""
        return {name: (self.seconds[name], self.cpu_seconds[name]) for name in self.seconds}

    def since(self, before: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """What came to the stages since an earlier state."""
        old = {name: before.get(name, (0.0, 0.0)) for name in self.seconds}
        return {
            name: (wall - old[name][0], cpu - old[name][1])
            for name, (wall, cpu) in self.state().items()
            if (wall, cpu) != old[name]
        }

    def recall(self, seconds: Mapping[str, Sequence[float]]) -> None:
        """Add what stages took in an earlier run.

        Args:
            seconds: stage to wall-clock and CPU seconds.
        """
        for name, (wall, cpu) in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + wall
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + cpu

    def table(self) -> str:
        """The stages in their order, and their sum."""
        rows = [(name, self.seconds[name], self.cpu_seconds[name]) for name in self.seconds]
        rows.append(("total", sum(self.seconds.values()), sum(self.cpu_seconds.values())))
        width = max(len(name) for name, _, _ in rows) + 5
        lines = [f"{'stage':<{width}}{'wall s':>10}{'CPU s':>9}"]
        return "\n".join([*lines, *(f"{name:<{width}}{wall:10.2f}{cpu:9.2f}" for name, wall, cpu in rows)])


class Stage(Protocol):
    """Gives the result of a stage of a diagnosis."""

    def __call__(
        self,
        name: str,
        made_from: Mapping[str, Any],
        after: Sequence[str],
        make: Callable[[], T],
        again: Callable[..., T],
    ) -> T:
        """As :meth:`KeptResults.stage`."""
        ...


def computed(
    name: str, made_from: Mapping[str, Any], after: Sequence[str], make: Callable[[], T], again: Callable[..., T]
) -> T:
    """A stage whose result is kept nowhere."""
    return make()


class KeptResults:
    """Results of one case in its unfinished folder.

    ``incomplete.json`` lists each stage with a hash of what it was made from (scan, weights, options, stages before),
    and the SHA-256 of its files. A stage is taken from its files when both agree; else it is done again.
    A file that cannot be written is kept in ``failed``, and the others are written.

    Args:
        folder: of the case, not finished.
        case_id: its name.
        affine: of its volumes, voxel index to RAS mm.
        clock: measures the stages; one that is taken from its files counts with the seconds that it took.
        scan_sha256: of the scan, for whoever has another one of this name.

    Raises:
        NotWrittenError: when the folder cannot be written to.
    """

    def __init__(
        self, folder: Path, case_id: str, affine: np.ndarray, clock: StageClock, scan_sha256: str = ""
    ) -> None:
        self.folder, self.case_id, self.affine, self.clock = folder, case_id, affine, clock
        self.scan_sha256 = scan_sha256
        self.failed: dict[str, str] = {}
        self._stages = _read_stages(folder / MANIFEST)
        self._keys: dict[str, str] = {}
        self._save()

    def stage(
        self,
        name: str,
        made_from: Mapping[str, Any],
        after: Sequence[str],
        make: Callable[[], T],
        again: Callable[..., T],
    ) -> T:
        """Result of a stage: from its files when they are there, else computed and written.

        Args:
            name: of the stage.
            made_from: what decides its result, besides the stages before; plain values.
            after: stages before, whose results it uses.
            make: computes it; a dataclass of arrays (X, Y, Z), each a file of its own, and of plain values.
            again: makes it from the same arrays and values; lists are tuples.

        Returns:
            The result.
        """
        if self._is_kept(name, made_from, after):
            return again(**self._read(name))
        before = self.clock.state()
        result = make()
        seconds = self.clock.since(before)
        arrays, values = _parts(result)
        with self.clock.stage(WRITE), ThreadPoolExecutor(max_workers=WRITERS) as pool:
            files = list(pool.map(lambda item: self._write_volume(*item), arrays.items()))
        self._note(name, files, {"values": values, "arrays": list(arrays), "seconds": seconds})
        return result

    def files(
        self, name: str, made_from: Mapping[str, Any], after: Sequence[str], write: Callable[[], Sequence[Path]]
    ) -> None:
        """Write files that are made of the results of stages, unless they are there.

        Args:
            name: of the files, for whoever reads that they could not be written.
            made_from: as in :meth:`stage`.
            after: as in :meth:`stage`.
            write: writes them into the folder, and gives their paths.
        """
        if self._is_kept(name, made_from, after):
            return
        written: Sequence[Path | None] = [None]
        with self.named_when_failed(name):
            written = write()
        self._note(name, written, {})

    def named_when_failed(self, name: str) -> AbstractContextManager[None]:
        """Let an error count as that of a file, and go on; out of memory is raised.

        Args:
            name: of the file or files.
        """
        return noted_when_unwritten(self.failed, name, self.case_id)

    @property
    def stages(self) -> list[str]:
        """Stages so far."""
        return list(self._keys)

    def finish(self) -> None:
        """End the case: nothing is left in the folder but what was asked for this time.

        Raises:
            ValueError: when files could not be written; the folder stays as it is.
        """
        if self.failed:
            reasons = "".join(f"\n    {reason}" for reason in self.failed.values())
            raise ValueError(f"Case {self.case_id}: not all files could be written, the others are:{reasons}")
        for name in set(self._stages) - set(self._keys):
            self._forget(name)
        for name in INTERMEDIATE:
            volume_path(self.folder, self.case_id, name).unlink(missing_ok=True)
        (self.folder / MANIFEST).unlink()

    def _is_kept(self, name: str, made_from: Mapping[str, Any], after: Sequence[str]) -> bool:
        before = {other: self._keys[other] for other in after}
        key = self._keys[name] = _digest({"stage": name, "made from": made_from, "after": before})
        kept = self._stages.get(name)
        if kept is None or kept["key"] != key or not all(self._is_whole(*file) for file in kept["files"].items()):
            return False
        self.clock.recall(kept.get("seconds", {}))
        _logger.info("Case %s: %s, taken from an earlier run", self.case_id, name)
        return True

    def _is_whole(self, name: str, sha256: str) -> bool:
        path = self.folder / name
        return path.is_file() and file_digest(path) == sha256

    def _read(self, name: str) -> dict[str, Any]:
        kept = self._stages[name]
        arrays = {array: read_volume(volume_path(self.folder, self.case_id, array), array) for array in kept["arrays"]}
        return {**arrays, **{key: _frozen(value) for key, value in kept["values"].items()}}

    def _write_volume(self, name: str, volume: np.ndarray) -> Path | None:
        path = volume_path(self.folder, self.case_id, name)
        with self.named_when_failed(path.name):
            write_volume(path, name, volume, self.affine)
        return None if path.name in self.failed else path

    def _note(self, name: str, files: Sequence[Path | None], more: Mapping[str, Any]) -> None:
        """Note a stage in the manifest, when all its files are written; what it had before is gone."""
        written = [path for path in files if path is not None]
        self._forget(name, written)
        if len(written) == len(files):
            digests = {str(path.relative_to(self.folder)): file_digest(path) for path in written}
            self._stages[name] = {"key": self._keys[name], "files": digests, **more}
        try:
            self._save()
        except OSError as error:  # the results are there all the same, and only cannot be taken up again
            _logger.warning("Case %s: %s", self.case_id, error)

    def _forget(self, name: str, but: Sequence[Path] = ()) -> None:
        for file in self._stages.pop(name, {"files": {}})["files"]:
            if self.folder / file not in but:
                (self.folder / file).unlink(missing_ok=True)

    def _save(self) -> None:
        of = {"case_id": self.case_id, SCAN: self.scan_sha256}
        write_json(self.folder / MANIFEST, {"notice": NOTICE, **of, "failed": self.failed, "stages": self._stages})


def volume_digest(volume: np.ndarray, affine: np.ndarray) -> str:
    """SHA-256 of voxels and their place: whatever reads the same CT finds the same.

    Args:
        volume: CT in HU (X, Y, Z).
        affine: voxel index to RAS mm.

    Example:
        >>> ct = np.zeros((2, 3, 4), np.float32)
        >>> volume_digest(ct, np.eye(4)) == volume_digest(np.asfortranarray(ct), np.eye(4))
        True
    """
    digest = hashlib.sha256(f"{volume.dtype} {volume.shape} {np.asarray(affine, float).tolist()}".encode())
    digest.update(np.ascontiguousarray(volume.T).data)  # x is fastest in memory, as a rule
    return digest.hexdigest()


def _parts(result: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values of a dataclass."""
    content = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    values = {name: _plain(value) for name, value in content.items() if name not in arrays}
    return arrays, values


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_stages(path: Path) -> dict[str, dict[str, Any]]:
    """Stages of an earlier run; none when there was none, or when somebody changed its file."""
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {name: stages[name] for name in stages if {"key", "files"} <= set(stages[name])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
