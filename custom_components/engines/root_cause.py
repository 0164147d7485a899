"""What went wrong, in one message: MONAI and PyTorch wrap an error on its way out, and its own words get lost."""

import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from custom_components.data.disk_errors import NotWrittenError
from custom_components.engines.machine_faults import machine_fault

_logger = logging.getLogger(__name__)

# How the messages begin that MONAI's transforms and configs put around another error.
WRAPPERS = ("applying transform ", "Failed to evaluate ", "Failed to instantiate component ")

# Types whose messages stand for themselves.
FOR_PEOPLE = (ValueError, RuntimeError, NotWrittenError)

# Set to anything, it lets every error show where it came from.
TRACEBACK_VARIABLE = "COVID_TRACEBACK"

_PACKAGE = Path(__file__).resolve().parents[1]

_TRACEBACK = "Traceback (most recent call last)"
_NEXT_TRACEBACK = "The above exception was the direct cause of the following exception:"
_FRAME = re.compile(r'^ *File "(.+)", line \d+', re.MULTILINE)
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
    cause = _behind(error)
    message = str(cause).strip()
    if _TRACEBACK in message:  # DataLoader's workers, LoadImage and SaveImage put the cause into the text
        message, plain = _message_of(_own_part(message)), True
    else:
        plain = bool(message) and isinstance(cause, FOR_PEOPLE)
    told = machine_fault(message) or (message if plain else f"{type(cause).__name__}: {message}".removesuffix(": "))
    return told.removeprefix(f"Case {name}: ")


def is_for_people(error: BaseException) -> bool:
    """Whether the root cause's message is enough: the system raised it, or a ``raise`` of this package.

    A ValueError that comes out of a library is a fault of the program, which its traceback shows.
    """
    cause = _behind(error)
    message = str(cause)
    if _TRACEBACK in message:
        part = _own_part(message)
        return machine_fault(_message_of(part)) is not None or _is_ours(_FRAME.findall(part))
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(cause.__traceback__)]
    ours = isinstance(cause, ValueError | RuntimeError) and _is_ours(frames)
    return isinstance(cause, OSError) or machine_fault(message) is not None or ours


def log_root_cause(one_line: bool = False) -> None:
    """Let an uncaught error end the process with its root cause as the last line, logged below the traceback.

    Ctrl-C ends it with one line, without a traceback.

    Args:
        one_line: no traceback either of an error whose message is enough (:func:`is_for_people`), unless
            ``COVID_TRACEBACK`` is set in the environment.
    """
    earlier = sys.excepthook.earlier if isinstance(sys.excepthook, _Hook) else sys.excepthook
    sys.excepthook = _Hook(earlier, one_line)


class _Hook:
    """What the interpreter calls with an error that nobody caught.

    Args:
        earlier: shows the traceback.
        one_line: as in :func:`log_root_cause`.
    """

    def __init__(self, earlier: Callable[..., object], one_line: bool) -> None:
        self.earlier = earlier
        self.one_line = one_line

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            _logger.warning("%sStopped. What is written is whole; a training goes on with --resume true.", _process())
            return
        if os.environ.get(TRACEBACK_VARIABLE) or not (self.one_line and is_for_people(error)):
            self.earlier(kind, error, trace)
        if isinstance(error, Exception):
            _logger.error("%s%s", _process(), root_cause(error))


def _process() -> str:
    """Which of the processes of one training this is; nothing when it is the only one."""
    count = os.environ.get("WORLD_SIZE", "1")
    return "" if count == "1" else f"Process {os.environ.get('RANK', '?')} of {count}: "


def _behind(error: BaseException) -> BaseException:
    """The error that others only wrapped."""
    while _is_wrapper(str(error)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_wrapper(message: str) -> bool:
    return message.startswith(WRAPPERS)


def _is_ours(frames: list[str]) -> bool:
    """Whether the innermost of some source files is of this package."""
    return bool(frames) and _PACKAGE in Path(frames[-1]).resolve().parents


def _own_part(text: str) -> str:
    """Traceback of the outermost error in a text that is no wrapper."""
    parts = text.split(_NEXT_TRACEBACK)
    own = [part for part in parts if not _is_wrapper(_message_of(part))]
    return (own or parts)[-1]


def _message_of(part: str) -> str:
    """Message of a traceback's error; several lines when it has several."""
    raised = list(_RAISED.finditer(part))
    return part[raised[-1].end() :].strip() if raised else part.strip().splitlines()[-1]
