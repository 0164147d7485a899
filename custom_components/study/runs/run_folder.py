"""Status files of a run: a mark at the start, a stamp at the end, and the log."""

import json
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.files.report_files import write_json
from custom_components.study.runs.run import TRAINING, Run
from custom_components.weights.checkpoints import epoch_checkpoints

STARTED, DONE, LOG = "started.json", "done.json", "log.txt"

# Format of the root cause of an error in the bundles' logging.conf.
_ROOT_CAUSE = re.compile(r" - custom_components\.engines\.root_cause - ERROR - (.*)")
_LONGEST = 400


def finished_seconds(run: Run, run_hash: str) -> float | None:
    """Duration of a finished run in seconds; None if it is not finished, its hash differs or an output is missing."""
    stamp = _content(run.folder / DONE)
    if stamp.get("hash") != run_hash or missing_outputs(run):
        return None
    return float(stamp["seconds"])


def can_resume(run: Run, run_hash: str) -> bool:
    """Whether an interrupted training has a checkpoint and the same hash as now."""
    if run.verb != TRAINING or _content(run.folder / STARTED).get("hash") != run_hash:
        return False
    return bool(epoch_checkpoints(run.places["ckpt_dir"]))


def mark_started(run: Run, run_hash: str, resume: bool = False) -> None:
    """Mark a run as started; empty its folder first unless it is resumed."""
    if not resume:
        shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / DONE).unlink(missing_ok=True)
    write_json(run.folder / STARTED, {"run": run.name, "hash": run_hash})


def stamp_done(run: Run, run_hash: str, seconds: float, keep_checkpoints: bool = False) -> None:
    """Delete disposable files, then stamp the run as done."""
    for pattern in () if keep_checkpoints else run.disposable:
        for path in run.folder.glob(pattern):
            path.unlink()
    write_json(run.folder / DONE, {"run": run.name, "hash": run_hash, "seconds": round(seconds, 3)})
    (run.folder / STARTED).unlink(missing_ok=True)


def missing_outputs(run: Run) -> list[str]:
    """Outputs of a run that are missing or empty."""
    paths = {name: run.folder / name for name in run.outputs}
    return [name for name, path in paths.items() if not (path.is_file() and path.stat().st_size)]


def failure_reason(folder: Path, status: int) -> str:
    """One line with the cause of a failure: from the log, or the signal if the exit status is negative."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        hint = ", possibly because the system ran out of memory" if -status == signal.SIGKILL else ""
        return f"ended by signal {name}{hint}"
    log = folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [found[1] for line in lines if (found := _ROOT_CAUSE.search(line))]
    last = (causes or lines or [f"exited with status {status} without a message"])[-1]
    return last if len(last) <= _LONGEST else f"{last[:_LONGEST]} ..."


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
