"""What the verbs of ``python -m custom_components`` have in common."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = 130  # exit status of a program that Ctrl-C ended

_logger = logging.getLogger(__name__)


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end a verb that can go on later with one sentence, not with a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _logger.warning("Stopped. What is finished stays; the same command goes on with the rest.")
        raise SystemExit(STOPPED) from None


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
