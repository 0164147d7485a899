"""Provenance of a study: versions, settings, data, hardware, times."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import custom_components
import torch
from custom_components.command_line.used_entries import used_entries
from custom_components.files.digest import file_digest
from custom_components.study.runs.fingerprints import DataFingerprint
from custom_components.study.runs.overrides import PLACES, config_content, knobs
from custom_components.study.runs.run import Run
from custom_components.study.runs.runner import Outcome

LIBRARIES = ("monai", "torch", "numpy", "scipy", "scikit-learn", "pandas", "statsmodels", "pytorch-ignite", "nibabel")
# Values that differ between the runs of the folds; paths are not recorded.
UNLISTED = ("bundle_root", "dataset_dir", "fold", "is_not_rank0", *PLACES)
CPU_INFO = Path("/proc/cpuinfo")


def provenance(
    runs: Sequence[Run],
    hashes: Mapping[str, str],
    outcome: Outcome,
    data: Mapping[str, DataFingerprint],
    settings: Mapping[str, Any],
    code: Mapping[str, str],
) -> dict[str, Any]:
    """Record how a study was produced, as JSON content without paths and patient names.

    Args:
        runs: all runs, including failed ones.
        hashes: run name to hash.
        outcome: outcome of the runs.
        data: fingerprints of the data sets, by purpose.
        settings: options of the study, such as protocol and overrides.
        code: result of ``code_state``.
    """
    configs = {Path(path) for run in runs for path in run.config_paths}
    numbers = {run.name: _numbers(run) for run in runs}
    kinds = {run.kind: numbers[run.name] for run in reversed(runs)}  # the first run of each kind
    seconds = {name: round(value, 1) for name, value in outcome.seconds.items()}
    return {
        "study": _without_paths(settings),
        "versions": {
            "python": platform.python_version(),
            "custom_components": code["custom_components"],
            **{name: version(name) for name in LIBRARIES},
        },
        "code": {
            "sources_sha256": code["sources"],
            "git": git_state(Path(custom_components.__file__).resolve().parents[1]),
        },
        "data": {name: asdict(own) for name, own in data.items()},
        "configs": {path.name: file_digest(path) for path in sorted(configs)},
        "numbers": dict(reversed(kinds.items())),
        "seeds": sorted({own["seed"] for own in numbers.values() if "seed" in own}),
        "hardware": hardware(),
        "runs": {run.name: {"hash": hashes[run.name], "seconds": seconds.get(run.name)} for run in runs},
        "seconds": round(sum(outcome.seconds.values()), 1),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Git commit and whether files are modified; None outside a clone or without git."""
    if not (folder / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, encoding="utf-8", check=True, timeout=30
            ).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.strip(), "modified": bool(changes.strip())}


def hardware() -> dict[str, Any]:
    """Processor, number of cores available to this process, and GPUs."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "gpus": gpus, "system": platform.system(), "machine": platform.machine()}


def _numbers(run: Run) -> dict[str, Any]:
    """Config values that a run uses, including its overrides."""
    content = config_content(run.config_paths, run.overrides)
    used = used_entries(content, run.verb)
    shown = {**{key: value for key, value in knobs(content).items() if key in used}, **run.overrides}
    return _without_paths({key: value for key, value in shown.items() if key not in UNLISTED})


def _without_paths(value: Any) -> Any:
    """Replace paths by their last part."""
    if isinstance(value, Mapping):
        return {key: _without_paths(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(own) for own in value]
    is_path = isinstance(value, Path) or (isinstance(value, str) and value.startswith(("/", "~")))
    return Path(value).name if is_path else value


def _cpu() -> str:
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
