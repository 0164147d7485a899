"""The process of a run: on this computer, tied to the study that started it."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import custom_components
from custom_components.study.runs.run import Run
from custom_components.study.runs.run_folder import LOG

TIED_PROCESS = Path(__file__).with_name("tied_process.py")
PATIENCE_S = 10.0


class Process(Protocol):
    """A process of a run, on any computer."""

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        ...

    def end(self) -> None:
        """End the process if it runs, and release what it holds."""
        ...


# Starts the process of a run; arguments: the run, what prepares its folder and gives its command, environment
# variables, file descriptor of a lock.
Launch = Callable[[Run, Callable[[], list[str]], Mapping[str, str], int | None], Process]


def launch_here(
    run: Run, begin: Callable[[], list[str]], environment: Mapping[str, str], lock: int | None
) -> "LocalProcess":
    """Start the process of a run on this computer.

    Args:
        run: the run.
        begin: prepares the folder of the run and returns its command line.
        environment: environment variables of the process.
        lock: file descriptor of a lock, inherited by the process.
    """
    command = begin()
    return local_process(run.folder, command[1:], environment, lock, command[0])


def local_process(
    folder: Path,
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    lock: int | None = None,
    python: str = sys.executable,
) -> "LocalProcess":
    """Start a process that logs into a folder and ends with this one.

    Args:
        folder: current folder of the process, with its log.
        command: arguments of the Python interpreter: ``-m``, a module and its arguments.
        environment: further environment variables.
        lock: file descriptor that the process inherits.
        python: the interpreter.
    """
    return LocalProcess(folder, [python, "-P", str(TIED_PROCESS), *command], environment or {}, lock)


class LocalProcess:
    """A process on this computer.

    Args:
        folder: its current folder, with its log.
        command: its command line.
        environment: further environment variables.
        lock: file descriptor that it inherits.
    """

    def __init__(self, folder: Path, command: Sequence[str], environment: Mapping[str, str], lock: int | None) -> None:
        self._log = (folder / LOG).open("ab")
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_child_environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # only the study receives Ctrl-C and then ends its runs
        )

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def end(self) -> None:
        """Terminate the process; kill it if it does not end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._log.close()


def _child_environment() -> dict[str, str]:
    """Environment of the runs: they import this package, not a bundle's copy, and log no progress bars."""
    root = str(Path(custom_components.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "TQDM_DISABLE": "1"}
