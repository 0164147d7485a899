"""Find the original error message behind the errors that MONAI and PyTorch wrap around it."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from custom_components.files.disk_errors import REMEDIES, NotWrittenError, full_folders

_logger = logging.getLogger(__name__)

# Start of the messages of errors that MONAI's transforms and configs wrap around another error.
WRAPPERS = ("applying transform ", "Failed to evaluate ", "Failed to instantiate component ")

# Error types whose messages are shown without the type name.
FOR_PEOPLE = (ValueError, RuntimeError, NotWrittenError)

# Environment variable: if set, every error shows its traceback.
TRACEBACK_VARIABLE = "COVID_TRACEBACK"

_PACKAGE = Path(__file__).resolve().parents[1]

_TRACEBACK = "Traceback (most recent call last)"
_NEXT_TRACEBACK = "The above exception was the direct cause of the following exception:"
_FRAME = re.compile(r'^ *File "(.+)", line \d+', re.MULTILINE)
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)(?:: |$)", re.MULTILINE)

MEMORY = (
    "The usual cause is too little memory: lower --num_workers (0 loads data in the main process), and --cache_rate "
    "if the config has it"
)
SHARED_MEMORY = "Lower --num_workers, or allow more shared memory (docker: --shm-size)"
OTHER_PROCESS = (
    "Another process of this training ended or no longer responds. Its last log line gives the reason; if there "
    "is none, it was killed, usually because memory ran out"
)
_LOADER_BUS = re.compile(r"DataLoader worker \(pid.*Bus error")
_LOADER_KILLED = re.compile(r"DataLoader worker \(pid.*\) (?:is killed by signal|exited unexpectedly)")
_PEER = re.compile(r"gloo/transport|Connection closed by peer|Connection reset by peer|NCCL.*remote process exited")
_NO_CUDA = re.compile(r"Torch not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available")
_SYSTEM = re.compile(r"^\[Errno (\d+)\] ([^:\n]+)(?:: '([^'\n]+)')?")


def root_cause(error: BaseException, name: str = "") -> str:
    """Message of the original error behind wrapping errors.

    Args:
        error: the caught error.
        name: case name that is already shown and not repeated.

    Returns:
        The message, with the type name unless it is in ``FOR_PEOPLE``. For a fault of the machine (a full disk, a
        killed process), the message says what to do.

    Example:
        >>> error = RuntimeError("applying transform <CheckLabeld>")
        >>> error.__cause__ = ValueError("Case 012: label has value 7.")
        >>> root_cause(error)
        'Case 012: label has value 7.'
    """
    cause = _behind(error)
    message = str(cause).strip()
    if _TRACEBACK in message:  # DataLoader's workers, LoadImage and SaveImage include the cause as text
        message, plain = _message_of(_own_part(message)), True
    else:
        plain = bool(message) and isinstance(cause, FOR_PEOPLE)
    shown = machine_fault(message) or (message if plain else f"{type(cause).__name__}: {message}".removesuffix(": "))
    return shown.removeprefix(f"Case {name}: ")


def is_for_people(error: BaseException) -> bool:
    """Whether the message is enough for users: it comes from the system or from a ``raise`` of this package.

    A ValueError from a library is a fault of the program and needs its traceback.
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
    """Log the root cause of an uncaught error as the last line, below the traceback.

    Ctrl-C gives one line without a traceback. Ignite's own lines on the error are left out.

    Args:
        one_line: whether to omit the traceback if the message is enough (:func:`is_for_people`) and ``COVID_TRACEBACK``
            is not set in the environment.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_not_of_ignite)
    earlier = sys.excepthook.earlier if isinstance(sys.excepthook, _Hook) else sys.excepthook
    sys.excepthook = _Hook(earlier, one_line)


def _is_not_of_ignite(record: logging.LogRecord) -> bool:
    """Whether a log line is not Ignite's copy of the error that ends a run."""
    return not (record.name.startswith("ignite.engine") and "terminating due to exception" in record.getMessage())


class _Hook:
    """Hook that the interpreter calls for an uncaught error.

    Args:
        earlier: hook that shows the traceback.
        one_line: as in :func:`log_root_cause`.
    """

    def __init__(self, earlier: Callable[..., object], one_line: bool) -> None:
        self.earlier = earlier
        self.one_line = one_line

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            _logger.warning("%sStopped. Written files are complete; resume a training with --resume true.", _process())
            return
        if os.environ.get(TRACEBACK_VARIABLE) or not (self.one_line and is_for_people(error)):
            self.earlier(kind, error, trace)
        if isinstance(error, Exception):
            _logger.error("%s%s", _process(), root_cause(error))


def _process() -> str:
    """Which process of a distributed training this is; empty for a single process."""
    count = os.environ.get("WORLD_SIZE", "1")
    return "" if count == "1" else f"Process {os.environ.get('RANK', '?')} of {count}: "


def _behind(error: BaseException) -> BaseException:
    while _is_wrapper(str(error)) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_wrapper(message: str) -> bool:
    return message.startswith(WRAPPERS)


def _is_ours(frames: list[str]) -> bool:
    """Whether the innermost source file belongs to this package."""
    return bool(frames) and _PACKAGE in Path(frames[-1]).resolve().parents


def _own_part(text: str) -> str:
    """Traceback of the outermost error in a text that is not a wrapper."""
    parts = text.split(_NEXT_TRACEBACK)
    own = [part for part in parts if not _is_wrapper(_message_of(part))]
    return (own or parts)[-1]


def _message_of(part: str) -> str:
    """Message of a traceback's error, possibly several lines."""
    raised = list(_RAISED.finditer(part))
    return part[raised[-1].end() :].strip() if raised else part.strip().splitlines()[-1]


def machine_fault(message: str) -> str | None:
    """Describe a fault of the machine and what to do.

    Args:
        message: message of the original error.

    Returns:
        The description; None when the message is about anything else.

    Example:
        >>> machine_fault("[Errno 30] Read-only file system: '/results/a.json'")
        '/results/a.json: Read-only file system. Make it writable, or choose another folder.'
        >>> machine_fault("Torch not compiled with CUDA enabled")
        'There is no CUDA device, or this PyTorch was built without CUDA. Use --device cpu.'
        >>> machine_fault("Case 012: label has value 7.") is None
        True
    """
    if _NO_CUDA.search(message):
        return "There is no CUDA device, or this PyTorch was built without CUDA. Use --device cpu."
    if _LOADER_BUS.search(message):
        return f"A data loading process ran out of shared memory. {SHARED_MEMORY}."
    if _LOADER_KILLED.search(message):
        return f"A data loading process was killed. {MEMORY}."
    if _PEER.search(message):
        return f"{OTHER_PROCESS}. ({message.splitlines()[0]})"
    found = _SYSTEM.match(message)
    return None if found is None else _system_error(int(found[1]), found[2].strip(), found[3])


def _system_error(number: int, words: str, path: str | None) -> str | None:
    """Describe a system error and what to do; None when there is nothing to add."""
    if path is None and number == errno.ENOSPC:
        path = ", ".join(map(str, full_folders())) or None
    if number == errno.ENOENT and path is not None:
        return f"{path}: {words}. Check the path, and whether it was removed during the run."
    if number not in REMEDIES or number == errno.ENOENT:
        return None
    return f"{path}: {words}. {REMEDIES[number]}." if path else f"{words}. {REMEDIES[number]}."
