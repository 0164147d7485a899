"""Results of one case that a later run reuses, and the seconds of each stage."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from custom_components.diagnosis.case_folder import MANIFEST, SCAN
from custom_components.diagnosis.scan_files import INTERMEDIATE, read_volume, volume_path, write_volume
from custom_components.engines.case_evaluator import noted_when_unwritten
from custom_components.files.digest import file_digest
from custom_components.files.report_files import write_json
from custom_components.reports.scan.findings import Scores

NOTICE = "This case is not finished. Run the same command again: it reuses these results and computes what is missing."
# Files written at a time. Most of the time is compression, which runs outside Python's lock.
WRITERS = 2
WRITE = "write NIfTI"
_logger = logging.getLogger(__name__)
T = TypeVar("T")
# Gives the result of a stage of a diagnosis; arguments as :meth:`KeptResults.stage`.
Stage = Callable[..., Any]


class StageClock:
    """Measures the stages of one scan: wall-clock and CPU seconds of all threads. A repeated stage adds up.

    Args:
        begun: called with the name of a stage when it begins.

    Example:
        >>> clock = StageClock()
        >>> with clock.stage("read"):
        ...     pass
        >>> list(clock.seconds), clock.table().splitlines()[0]
        (['read'], 'stage         wall s    CPU s')
    """

    def __init__(self, begun: Callable[[str], object] | None = None) -> None:
        self.times: dict[str, tuple[float, float]] = {}
        self._begun = begun

    @property
    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds of each stage."""
        return {name: wall for name, (wall, _) in self.times.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        if self._begun is not None:
            self._begun(name)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add({name: (time.perf_counter() - wall, time.process_time() - cpu)})

    def add(self, times: Mapping[str, Sequence[float]]) -> None:
        """Add wall-clock and CPU seconds of stages, such as those of an earlier run."""
        for name, (wall, cpu) in times.items():
            before = self.times.get(name, (0.0, 0.0))
            self.times[name] = (before[0] + wall, before[1] + cpu)

    def since(self, before: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
        """Seconds that stages took since ``times`` was ``before``."""
        changed = {name: times for name, times in self.times.items() if times != before.get(name)}
        return {name: np.subtract(times, before.get(name, 0)).tolist() for name, times in changed.items()}

    def table(self) -> str:
        """The stages in their order, and their sum."""
        rows = [(name, *times) for name, times in self.times.items()]
        rows.append(("total", sum(wall for _, wall, _ in rows), sum(cpu for _, _, cpu in rows)))
        width = max(len(name) for name, _, _ in rows) + 5
        lines = [f"{'stage':<{width}}{'wall s':>10}{'CPU s':>9}"]
        return "\n".join([*lines, *(f"{name:<{width}}{wall:10.2f}{cpu:9.2f}" for name, wall, cpu in rows)])


def computed(
    name: str, made_from: Mapping[str, Any], after: Sequence[str], make: Callable[[], T], restore: Callable[..., T]
) -> T:
    """Compute the result of a stage and keep it nowhere."""
    return make()


class KeptResults:
    """Results of one case in its unfinished folder.

    ``incomplete.json`` lists each stage with a hash of its inputs (scan, weights, options, earlier stages) and the
    SHA-256 of its files. If both agree, the result is read from the files; otherwise the stage is computed again.
    A file that cannot be written is listed in ``failed``, and the others are written.

    Args:
        folder: unfinished folder of the case.
        case_id: name of the case.
        affine: affine of its volumes, voxel index to RAS mm.
        clock: measures the stages; a stage that is read from its files counts with the seconds of its computation.
        scan_sha256: hash of the scan, to recognise another scan with the same name.

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
        restore: Callable[..., T],
    ) -> T:
        """Result of a stage: read from its files if they are valid, otherwise computed and written.

        Args:
            name: name of the stage.
            made_from: inputs that determine the result, besides earlier stages; plain values.
            after: earlier stages whose results it uses.
            make: computes the result: a dataclass of arrays (X, Y, Z), each written to its own file, and plain values.
            restore: makes the result from the same arrays and values, lists as tuples.

        Returns:
            The result.
        """
        if self._is_kept(name, made_from, after):
            return restore(**self._read(name))
        before = dict(self.clock.times)
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
        """Write files made from the results of stages, unless valid files exist.

        Args:
            name: name of the files in messages.
            made_from: as in :meth:`stage`.
            after: as in :meth:`stage`.
            write: writes the files into the folder and returns their paths.
        """
        if self._is_kept(name, made_from, after):
            return
        written: Sequence[Path | None] = [None]
        with self.named_when_failed(name):
            written = write()
        self._note(name, written, {})

    def named_when_failed(self, name: str) -> AbstractContextManager[None]:
        """Record an error under the name of a file and continue; out of memory is raised."""
        return noted_when_unwritten(self.failed, name, self.case_id)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages and files so far."""
        return tuple(self._keys)

    def finish(self) -> None:
        """Remove the list of stages, and results that this run did not ask for.

        Raises:
            ValueError: when files could not be written; the folder is not changed.
        """
        if self.failed:
            reasons = "".join(f"\n    {reason}" for reason in self.failed.values())
            raise ValueError(f"Case {self.case_id}: some files could not be written, the others are complete:{reasons}")
        for name in set(self._stages) - set(self._keys):
            self._forget(name)
        for name in INTERMEDIATE:
            volume_path(self.folder, self.case_id, name).unlink(missing_ok=True)
        (self.folder / MANIFEST).unlink()

    def _is_kept(self, name: str, made_from: Mapping[str, Any], after: Sequence[str]) -> bool:
        before = {other: self._keys[other] for other in after}
        inputs = json.dumps({"stage": name, "made from": made_from, "after": before}, sort_keys=True)
        key = self._keys[name] = hashlib.sha256(inputs.encode()).hexdigest()
        kept = self._stages.get(name)
        if kept is None or kept["key"] != key:
            return False
        paths = {self.folder / file: sha256 for file, sha256 in kept["files"].items()}
        if not all(path.is_file() and file_digest(path) == sha256 for path, sha256 in paths.items()):
            return False
        self.clock.add(kept.get("seconds", {}))
        _logger.info("Case %s: %s, result of an earlier run reused", self.case_id, name)
        return True

    def _read(self, name: str) -> dict[str, Any]:
        kept = self._stages[name]
        arrays = {array: read_volume(volume_path(self.folder, self.case_id, array), array) for array in kept["arrays"]}
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in kept["values"].items()}
        return {**arrays, **values}

    def _write_volume(self, name: str, volume: np.ndarray) -> Path | None:
        path = volume_path(self.folder, self.case_id, name)
        with self.named_when_failed(path.name):
            write_volume(path, name, volume, self.affine)
        return None if path.name in self.failed else path

    def _note(self, name: str, files: Sequence[Path | None], more: Mapping[str, Any]) -> None:
        """Replace the entry of a stage, and its files; without an entry if a file could not be written."""
        written = [path for path in files if path is not None]
        self._forget(name, written)
        if len(written) == len(files):
            digests = {str(path.relative_to(self.folder)): file_digest(path) for path in written}
            self._stages[name] = {"key": self._keys[name], "files": digests, **more}
        try:
            self._save()
        except OSError as error:  # the results are complete, but a later run cannot reuse them
            _logger.warning("Case %s: %s", self.case_id, error)

    def _forget(self, name: str, but: Sequence[Path] = ()) -> None:
        for file in self._stages.pop(name, {"files": {}})["files"]:
            if self.folder / file not in but:
                (self.folder / file).unlink(missing_ok=True)

    def _save(self) -> None:
        of = {"case_id": self.case_id, SCAN: self.scan_sha256}
        write_json(self.folder / MANIFEST, {"notice": NOTICE, **of, "failed": self.failed, "stages": self._stages})


def volume_digest(volume: np.ndarray, affine: np.ndarray) -> str:
    """SHA-256 of voxels and affine, whatever the memory layout.

    Args:
        volume: CT in HU (X, Y, Z).
        affine: voxel index to RAS mm.

    Example:
        >>> ct = np.zeros((2, 3, 4), np.float32)
        >>> volume_digest(ct, np.eye(4)) == volume_digest(np.asfortranarray(ct), np.eye(4))
        True
    """
    digest = hashlib.sha256(f"{volume.dtype} {volume.shape} {np.asarray(affine, float).tolist()}".encode())
    digest.update(np.ascontiguousarray(volume.T).data)  # usually no copy: x is mostly fastest in memory
    return digest.hexdigest()


def _parts(result: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays, and the other fields as plain values."""
    arrays = {name: value for name, value in vars(result).items() if isinstance(value, np.ndarray)}
    return arrays, {
        name: dataclasses.asdict(value) if isinstance(value, Scores) else value
        for name, value in vars(result).items()
        if name not in arrays
    }


def _read_stages(path: Path) -> dict[str, dict[str, Any]]:
    """Stages of an earlier run; empty if there was none or its file is damaged."""
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {name: stages[name] for name in stages if {"key", "files"} <= set(stages[name])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
