"""What the verbs of ``python -m custom_components`` have in common."""

import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from custom_components.engines.root_cause import root_cause

STOPPED = 130  # exit status of a program that Ctrl-C ended
FAILED = 1
# Set to anything, it lets every error show where it came from.
TRACEBACK_VARIABLE = "COVID_TRACEBACK"

_PACKAGE = Path(__file__).resolve().parent

_logger = logging.getLogger(__name__)


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end a verb that can go on later with one sentence, not with a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning("Stopped. What is finished stays; the same command goes on with the rest.")
        raise SystemExit(STOPPED) from None


@contextmanager
def ended_with_a_message() -> Iterator[None]:
    """Let wrong input, a disk or Ctrl-C end a verb with one message and an exit status, not with a traceback.

    Errors of the program itself pass; so do all with ``COVID_TRACEBACK=1`` in the environment.
    """
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning("Stopped. Nothing half-written is left.")
        raise SystemExit(STOPPED) from None
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not is_for_people(error):
            raise
        _logger.error("%s", root_cause(error))
        raise SystemExit(FAILED) from None


def is_for_people(error: Exception) -> bool:
    """Whether an error's message is enough: the system raised it, or a ``raise`` of this package.

    A ValueError that comes out of a library is a fault of the program, which its traceback shows.
    """
    if isinstance(error, OSError):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(error, ValueError) and _PACKAGE in Path(frame.f_code.co_filename).resolve().parents


def check_flags(**flags: bool) -> None:
    """Refuse a flag that is a word: ``false`` would count as true, and could put the PatientID into a report.

    Args:
        flags: values by the names of the options.

    Raises:
        ValueError: naming the flag that is neither True nor False.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}. Expected True or False: --{name} True.")
