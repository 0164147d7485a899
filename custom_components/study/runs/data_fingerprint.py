"""Which cases a study reads, by what their files hold and not by where they lie."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.files.digest import file_digest
from custom_components.files.report_files import write_json
from tqdm import tqdm

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
