"""Why a run failed, in one line, from what it logged."""

import re
import signal
from pathlib import Path

from custom_components.study.runs.run_stamp import LOG

# As the bundles' logging.conf writes the root cause of an error.
_ROOT_CAUSE = re.compile(r" - custom_components\.engines\.root_cause - ERROR - (.*)")
_LONGEST = 400


def failure_reason(folder: Path, status: int) -> str:
    """Last line of a failed run's log that names the cause.

    Args:
        folder: of the run.
        status: exit status of its process, negative when a signal ended it.

    Returns:
        One line.
    """
    lines = [line.strip() for line in _text(folder / LOG).splitlines() if line.strip()]
    causes = [found[1] for line in lines if (found := _ROOT_CAUSE.search(line))]
    if status < 0:
        return f"ended by the signal {_signal_name(-status)}{_hint(-status)}"
    last = (causes or lines or [f"ended with status {status} and without a message"])[-1]
    return last if len(last) <= _LONGEST else f"{last[:_LONGEST]} ..."


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else str(number)


def _hint(number: int) -> str:
    return ", as the system does when memory runs out" if number == signal.SIGKILL else ""
