"""Hashes of what a study reads and does: while a run's stays the same, the finished run need not be done again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import custom_components
from custom_components._version import __version__
from custom_components.files.digest import file_digest
from custom_components.files.report_files import write_json
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import Run
from tqdm import tqdm

# Of the libraries that a run executes, those whose version is part of its hash.
LIBRARIES = ("monai", "torch", "numpy")
# Drives the runs and is no part of them: a new table is no reason to train again.
DRIVER = "study"

# Fewer bytes than this are read in no time: no progress is shown.
PROGRESS_FROM_BYTES = 10**9


@dataclass(frozen=True)
class DataFingerprint:
    """What a data set holds, in one number.

    Args:
        sha256: of the cases in their order, the contents of their files included.
        cases: number of them.
        files: number of their files.
        size_bytes: of the files together.
    """

    sha256: str
    cases: int
    files: int
    size_bytes: int


def fingerprint(
    cases: Sequence[Mapping[str, Any]], path_keys: Sequence[str], known: Path | None = None
) -> DataFingerprint:
    """Hash cases and the files they name.

    Files are read once: their hashes are kept with size and time, and taken from there while these stay the same.

    Args:
        cases: as ``list_scans`` or ``list_cases`` return them.
        path_keys: which of their entries are files, or folders of files.
        known: JSON file that keeps the hashes; it names no file. None keeps none.

    Returns:
        The fingerprint; the same wherever the files lie and whenever they were copied.
    """
    files = {path: _files(Path(path)) for case in cases for key in path_keys if (path := case.get(key))}
    flat = [file for own in files.values() for file in own]
    hashes = _hashes(flat, known)
    content = [
        {key: [hashes[file] for file in files[value]] if key in path_keys else value for key, value in case.items()}
        for case in cases
    ]
    text = json.dumps(content, sort_keys=True, default=str)
    total = sum(file.stat().st_size for file in flat)
    return DataFingerprint(hashlib.sha256(text.encode()).hexdigest(), len(cases), len(flat), total)


def code_state() -> dict[str, str]:
    """Versions of the code that a run executes.

    Returns:
        ``custom_components``, ``sources`` (SHA-256 of the package's Python files, but for those of the study itself)
        and the versions of MONAI, PyTorch and NumPy.
    """
    root = Path(custom_components.__file__).parent
    sources = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] != DRIVER:
            sources.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    libraries = {name: version(name) for name in LIBRARIES}
    return {"custom_components": __version__, "sources": sources.hexdigest(), **libraries}


def run_hashes(runs: Sequence[Run], code: Mapping[str, str], before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Hash runs: config with overlays and overrides, cases and their files, code, and the runs that go before.

    Args:
        runs: in an order in which each follows those that it needs.
        code: as :func:`code_state` gives it.
        before: hashes of runs that were planned earlier.

    Returns:
        A hash by the run's name.
    """
    hashes = dict(before or {})
    for run in runs:
        content = {
            "verb": run.verb,
            "config": config_content(run.config_paths, run.overrides),
            "data": run.data,
            "code": dict(code),
            "needs": {name: hashes[name] for name in run.needs},
        }
        hashes[run.name] = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return hashes


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _hashes(files: Sequence[Path], known: Path | None) -> dict[Path, str]:
    kept = json.loads(known.read_text(encoding="utf-8")) if known is not None and known.is_file() else {}
    states = {file: _state(file) for file in files}
    new = [file for file, state in states.items() if state not in kept]
    size = sum(file.stat().st_size for file in new)
    quick = size < PROGRESS_FROM_BYTES
    with tqdm(total=size, desc="Reading the data", unit="B", unit_scale=True, disable=quick) as bar:
        for file in new:
            kept[states[file]] = file_digest(file)
            bar.update(file.stat().st_size)
    if new and known is not None:
        write_json(known, kept)
    return {file: kept[state] for file, state in states.items()}


def _state(file: Path) -> str:
    """Name, size and time of a file as a number: a name may be a patient's."""
    status = file.stat()
    text = json.dumps([str(file.absolute()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(text.encode()).hexdigest()
