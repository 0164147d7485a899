"""How commands end: messages, exit statuses and Ctrl-C, for the package and ``python -m monai.bundle run``."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from custom_components.command_line.typed_words import OptionError
from custom_components.engines.root_cause import TRACEBACK_VARIABLE, is_for_people, root_cause
from custom_components.images.gpu_decoder import hide_gpu_decoder_messages

STOPPED = 130  # exit status of a program that Ctrl-C ended
FAILED = 1
WRONG_OPTIONS = 2

_logger = logging.getLogger(__name__)


def _start_quietly() -> None:
    """Hide useless messages, and Ignite's log of an error that is also the last line of the program."""
    hide_gpu_decoder_messages()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_not_repeated)


def _is_not_repeated(record: logging.LogRecord) -> bool:
    return not (record.name.startswith("ignite.") and "is terminating due to exception" in str(record.msg))


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """On Ctrl-C, end a resumable command with one sentence instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning("Stopped. Finished results are kept; run the same command again to continue.")
        raise SystemExit(STOPPED) from None


@contextmanager
def ended_with_a_message() -> Iterator[None]:
    """On wrong input, a disk error or Ctrl-C, end with one message and an exit status instead of a traceback.

    Errors of the program itself keep their traceback, and so do all errors with ``COVID_TRACEBACK=1`` in the
    environment. Useless warnings of libraries are suppressed.
    """
    _start_quietly()
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning("Stopped. No partial files are left.")
        raise SystemExit(STOPPED) from None
    except OptionError as error:
        _logger.error("%s", error)
        raise SystemExit(WRONG_OPTIONS) from None
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not is_for_people(error):
            raise
        _logger.error("%s", root_cause(error))
        raise SystemExit(FAILED) from None


def check_flags(**flags: bool) -> None:
    """Check that flags are booleans: the string ``false`` would count as true and could put the PatientID in a report.

    Args:
        flags: values by option name.

    Raises:
        ValueError: names the flag that is neither True nor False.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}. Expected True or False: --{name} True.")
