"""What a run leaves in its folder: a mark when it starts, a stamp when it is done, and its log."""

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

# As the bundles' logging.conf writes the root cause of an error.
_ROOT_CAUSE = re.compile(r" - custom_components\.engines\.root_cause - ERROR - (.*)")
_LONGEST = 400


def finished_seconds(run: Run, run_hash: str) -> float | None:
    """Seconds that a finished run took.

    Args:
        run: the run.
        run_hash: what it would be done with now.

    Returns:
        None when it is not finished, was done with anything else, or an output is gone.
    """
    stamp = _content(run.folder / DONE)
    if stamp.get("hash") != run_hash or missing_outputs(run):
        return None
    return float(stamp["seconds"])


def can_resume(run: Run, run_hash: str) -> bool:
    """Whether an interrupted training left a checkpoint, and was started as it would be started now."""
    if run.verb != TRAINING or _content(run.folder / STARTED).get("hash") != run_hash:
        return False
    return bool(epoch_checkpoints(run.places["ckpt_dir"]))


def mark_started(run: Run, run_hash: str, resume: bool = False) -> None:
    """Empty the run's folder, unless it is resumed, and mark it."""
    if not resume:
        shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / DONE).unlink(missing_ok=True)
    write_json(run.folder / STARTED, {"run": run.name, "hash": run_hash})


def stamp_done(run: Run, run_hash: str, seconds: float, keep_checkpoints: bool = False) -> None:
    """Remove what nobody needs any more and stamp the run, in this order."""
    for pattern in () if keep_checkpoints else run.disposable:
        for path in run.folder.glob(pattern):
            path.unlink()
    write_json(run.folder / DONE, {"run": run.name, "hash": run_hash, "seconds": round(seconds, 3)})
    (run.folder / STARTED).unlink(missing_ok=True)


def missing_outputs(run: Run) -> list[str]:
    """Outputs of a run that are not there, or empty."""
    paths = {name: run.folder / name for name in run.outputs}
    return [name for name, path in paths.items() if not (path.is_file() and path.stat().st_size)]


def failure_reason(folder: Path, status: int) -> str:
    """Last line of a failed run's log that names the cause.

    Args:
        folder: of the run.
        status: exit status of its process, negative when a signal ended it.

    Returns:
        One line.
    """
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        hint = ", as the system does when memory runs out" if -status == signal.SIGKILL else ""
        return f"ended by the signal {name}{hint}"
    log = folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [found[1] for line in lines if (found := _ROOT_CAUSE.search(line))]
    last = (causes or lines or [f"ended with status {status} and without a message"])[-1]
    return last if len(last) <= _LONGEST else f"{last[:_LONGEST]} ..."


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
