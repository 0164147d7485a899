"""What a run leaves in its folder so that a study knows it again: a mark when it starts, a stamp when it is done."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.files.report_files import write_json
from custom_components.study.runs.run import TRAINING, Run
from custom_components.weights.checkpoints import epoch_checkpoints

STARTED, DONE, LOG = "started.json", "done.json", "log.txt"


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
    return [name for name in run.outputs if not _is_filled(run.folder / name)]


def _is_filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
