"""What `diagnose --progress` tells the program that started it: one JSON line per event on standard output."""

import json
import sys
from collections.abc import Callable
from typing import Any

# Reports an event.
Tell = Callable[..., None]


def write_event(**event: Any) -> None:
    """Write one event as a JSON line.

    Events, in their order: ``scans`` (their number); for each scan ``stage`` (names of its stages as they begin) and
    ``case`` with ``number`` (its name, once known, and its place; not of a case that is finished already); at the end
    ``finished`` (names of cases, also of those that an earlier run finished) and ``failed`` (reason by case).

    Args:
        event: names and plain values.

    Example:
        >>> write_event(stage="lungs and infection")
        {"stage": "lungs and infection"}
    """
    sys.stdout.write(f"{json.dumps(event)}\n")
    sys.stdout.flush()


def no_event(**_: Any) -> None:
    """Write nothing."""
