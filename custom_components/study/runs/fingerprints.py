"""Hashes of the inputs and code of each run: a finished run is repeated only if its hash changes."""

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

# Libraries whose versions are part of a run's hash.
LIBRARIES = ("monai", "torch", "numpy")
# Not part of the hash: the study only starts runs, and a new table must not trigger a new training.
DRIVER = "study"

# No progress bar for fewer bytes than this.
PROGRESS_FROM_BYTES = 10**9


@dataclass(frozen=True)
class DataFingerprint:
    """Fingerprint of a data set.

    Args:
        sha256: hash of the cases in order, including the content of their files.
        cases: number of cases.
        files: number of files.
        size_bytes: total size of the files.
    """

    sha256: str
    cases: int
    files: int
    size_bytes: int


def fingerprint(
    cases: Sequence[Mapping[str, Any]], path_keys: Sequence[str], known: Path | None = None, keep: bool = True
) -> DataFingerprint:
    """Hash cases and their files, independent of the location and modification time of the files.

    Args:
        cases: cases from ``list_scans`` or ``list_cases``.
        path_keys: entries of a case that are files or folders.
        known: JSON file that caches file hashes with size and modification time; a file is read again only if these
            change. It has no file names. None disables the cache.
        keep: whether new hashes are stored in ``known``.
    """
    files = {path: _files(Path(path)) for case in cases for key in path_keys if (path := case.get(key))}
    flat = [file for own in files.values() for file in own]
    hashes = _hashes(flat, known, keep)
    content = [
        {key: [hashes[file] for file in files[value]] if key in path_keys else value for key, value in case.items()}
        for case in cases
    ]
    text = json.dumps(content, sort_keys=True, default=str)
    total = sum(file.stat().st_size for file in flat)
    return DataFingerprint(hashlib.sha256(text.encode()).hexdigest(), len(cases), len(flat), total)


def code_state() -> dict[str, str]:
    """Versions of the code that a run executes.

    They are ``custom_components``, ``sources`` (SHA-256 of the package's Python files, except those of the study), and
    the versions of MONAI, PyTorch and NumPy.
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
    """Hash each run, by name: config with overlays and overrides, cases and files, code, and the runs it needs.

    Args:
        runs: runs, each after those that it needs.
        code: result of :func:`code_state`.
        before: hashes of runs planned earlier.
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


def _hashes(files: Sequence[Path], known: Path | None, keep: bool) -> dict[Path, str]:
    kept = json.loads(known.read_text(encoding="utf-8")) if known is not None and known.is_file() else {}
    states = {file: _state(file) for file in files}
    new = [file for file, state in states.items() if state not in kept]
    size = sum(file.stat().st_size for file in new)
    quick = size < PROGRESS_FROM_BYTES
    with tqdm(total=size, desc="Reading the data", unit="B", unit_scale=True, disable=quick) as bar:
        for file in new:
            kept[states[file]] = file_digest(file)
            bar.update(file.stat().st_size)
    if new and known is not None and keep:
        write_json(known, kept)
    return {file: kept[state] for file, state in states.items()}


def _state(file: Path) -> str:
    """Hash of name, size and time of a file; hashed because a name may identify a patient."""
    status = file.stat()
    text = json.dumps([str(file.absolute()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(text.encode()).hexdigest()
