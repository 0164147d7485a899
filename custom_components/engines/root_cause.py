"""What went wrong, in one message: MONAI and PyTorch wrap an error on its way out, and its own words get lost."""

import logging
import os
import re
import sys
from types import TracebackType

from custom_components.data.disk_errors import NotWrittenError
from custom_components.engines.machine_faults import machine_fault

_logger = logging.getLogger(__name__)

# How the messages begin that MONAI's transforms and configs put around another error.
WRAPPERS = ("applying transform ", "Failed to evaluate ", "Failed to instantiate component ")

# Types whose messages stand for themselves.
FOR_PEOPLE = (ValueError, RuntimeError, NotWrittenError)

_TRACEBACK = "Traceback (most recent call last)"
_NEXT_TRACEBACK = "The above exception was the direct cause of the following exception:"
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)(?:: |$)", re.MULTILINE)


def root_cause(error: BaseException, name: str = "") -> str:
    """Message of the error that others only wrapped.

    Args:
        error: what was caught.
        name: case that the reader of the message already knows; not named again.

    Returns:
        The message; with the type's name before it unless it is written for users (``FOR_PEOPLE``). A fault of the
        machine (a full disk, a killed process) is put into words that say what to do.

    Example:
        >>> error = RuntimeError("applying transform <CheckLabeld>")
        >>> error.__cause__ = ValueError("Case 012: label has value 7.")
        >>> root_cause(error)
        'Case 012: label has value 7.'
    """
    cause = error
    while _is_wrapper(str(cause)) and cause.__cause__ is not None:
        cause = cause.__cause__
    message = str(cause).strip()
    if _TRACEBACK in message:  # DataLoader's workers, LoadImage and SaveImage put the cause into the text
        message, plain = _last_message(message), True
    else:
        plain = bool(message) and isinstance(cause, FOR_PEOPLE)
    told = machine_fault(message) or (message if plain else f"{type(cause).__name__}: {message}".removesuffix(": "))
    return told.removeprefix(f"Case {name}: ")


def log_root_cause() -> None:
    """Let an uncaught error end the process with its root cause as the last line, logged below the traceback.

    Ctrl-C ends it with one line, without a traceback.
    """
    if sys.excepthook is not _show_and_log:
        _shown_by.append(sys.excepthook)
        sys.excepthook = _show_and_log


_shown_by = [sys.excepthook]


def _show_and_log(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        _logger.warning("%sStopped. What is written is whole; a training goes on with --resume true.", _process())
        return
    _shown_by[-1](kind, error, traceback)
    if isinstance(error, Exception):
        _logger.error("%s%s", _process(), root_cause(error))


def _process() -> str:
    """Which of the processes of one training this is; nothing when it is the only one."""
    count = os.environ.get("WORLD_SIZE", "1")
    return "" if count == "1" else f"Process {os.environ.get('RANK', '?')} of {count}: "


def _is_wrapper(message: str) -> bool:
    return message.startswith(WRAPPERS)


def _last_message(text: str) -> str:
    """Message of the outermost error of a traceback that is no wrapper; several lines when it has several."""
    messages = []
    for part in text.split(_NEXT_TRACEBACK):
        raised = list(_RAISED.finditer(part))
        messages.append(part[raised[-1].end() :].strip() if raised else part.strip().splitlines()[-1])
    own = [message for message in messages if not _is_wrapper(message)]
    return (own or messages)[-1]
