import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bad_input.places import message_at, output_at

# `seen` begins with this when the input is accepted.
TAKEN = "accepted: "
# What stands before the problems of a data set.
_HEAD = re.compile(r"Data set .* has \d+ problems?:\n  - |(Case \S+|\d+ of \d+ scans) failed:\s+(bad: )?")


@dataclass(frozen=True)
class Row:
    """One row of docs/bad_input.md.

    Args:
        name: of the test.
        given: description of the input.
        met: where it is used, a key of ``places.PLACES``.
        seen: start of the message, an ellipsis for variable text; or ``accepted: `` and how the input is handled.
        make: writes the input into an empty folder and returns what the place is given.
        check: returns whether the output for an accepted input is right.
    """

    name: str
    given: str
    met: str
    seen: str
    make: Callable[[Path], Any]
    check: Callable[[Any], bool] | None = None

    def try_out(self, folder: Path, caplog: Any) -> None:
        """Fail unless what happens is what the row says."""
        given = self.make(folder)
        if self.seen.startswith(TAKEN):
            assert self.check is not None
            assert self.check(output_at(self.met, given))
            return
        lines = [_HEAD.sub("", message) for message in message_at(self.met, given, caplog)]
        pattern = ".*".join(re.escape(part) for part in self.seen.split("…"))
        assert any(re.match(pattern, line) for line in lines), lines

    @property
    def line(self) -> str:
        """As the page has it."""
        return f"| {self.given} | {self.met} | {self.seen.replace('|', chr(92) + '|')} | `{self.name}` |"
