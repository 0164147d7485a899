"""A number for what a run will do: while it stays the same, a finished run need not be done again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import custom_components
from custom_components._version import __version__
from custom_components.study.runs.overrides import config_content
from custom_components.study.runs.run import Run

LIBRARIES = ("monai", "torch", "numpy")
# Drives the runs and is no part of them: a new table is no reason to train again.
DRIVER = "study"


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
