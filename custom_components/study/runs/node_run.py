"""One run on a node of a cluster: checked to be of the same code, and alone in its folder."""

import time
from collections.abc import Mapping
from pathlib import Path

from custom_components.cluster.versions import differences
from custom_components.files.digest import file_digest
from custom_components.files.lock import held_alone
from custom_components.study.runs.fingerprints import code_state
from custom_components.study.runs.processes import local_process

# How long a run waits for the process of an earlier attempt on a node that was taken for lost.
ORPHAN_S = 120.0


def run_lock(folder: Path) -> Path:
    """Lock file of a run, held on the node on which its process runs."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")


def wait_until_free(lock: Path, wait_s: float = ORPHAN_S) -> None:
    """Wait until no process holds a lock.

    Raises:
        ValueError: when one still holds it after this time.
    """
    until_s = time.monotonic() + wait_s
    while True:
        with held_alone(lock) as is_held:
            if is_held:
                return
        if time.monotonic() > until_s:
            raise ValueError(f"An earlier process of this run still holds {lock}. End it, then run the same command.")
        time.sleep(0.2)


def run_here(command: list[str], folder: Path, code: Mapping[str, str], digests: Mapping[str, str]) -> tuple[int, str]:
    """Run a command on this node until it ends.

    Args:
        command: arguments of the Python interpreter.
        folder: folder of the run.
        code: the code that the study executes.
        digests: SHA-256 of files that must be the same here, by path.

    Returns:
        Exit status, and why the command was not run, empty if it was.
    """
    if odd := differences(code, code_state()):
        return 1, f"The code of a node differs: {odd}. Install the same versions on all nodes."
    for name, digest in digests.items():
        if not Path(name).is_file() or file_digest(Path(name)) != digest:
            return 1, f"A node has no or another {name}. Choose folders that all nodes share."
    with held_alone(run_lock(folder)) as is_held:
        if not is_held:
            return 1, "An earlier process of this run has not ended."
        process = local_process(folder, command)
        try:
            while (status := process.poll()) is None:
                time.sleep(0.1)
            return status, ""
        finally:
            process.end()
