"""The rows of docs/bad_input.md: each says how an input is handled, and is a test of its name."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bad_input.places import message_at, output_at
from tests.bundles.conftest import ROOT

PAGE = (ROOT / "docs" / "bad_input.md").read_text(encoding="utf-8")
# A message begins with this when the input is accepted.
ACCEPTED = "accepted: "
# Text before the problems of a data set.
_HEAD = re.compile(r"Data set .* has \d+ problems?:\n  - |(Case \S+|\d+ of \d+ scans) failed:\s+(bad: )?")

Make = Callable[[Path], Any]
# Writes the input into an empty folder and returns what the place is given; with a check of the output if accepted.
Input = Make | tuple[Make, Callable[[Any], bool]]


@dataclass(frozen=True)
class Row:
    """One row of the page.

    Args:
        given: description of the input.
        met: where it is used, a key of ``places.PLACES``.
        message: its start, an ellipsis for variable text; or ``accepted: `` and how the input is handled.
        name: of the test.
    """

    given: str
    met: str
    message: str
    name: str

    def check(self, made: Input, folder: Path, caplog: Any) -> None:
        """Fail unless the input is handled as the row says."""
        make, is_right = made if isinstance(made, tuple) else (made, None)
        given = make(folder)
        if self.message.startswith(ACCEPTED):
            assert is_right is not None
            assert is_right(output_at(self.met, given))
            return
        assert is_right is None
        lines = [_HEAD.sub("", message) for message in message_at(self.met, given, caplog)]
        pattern = ".*".join(re.escape(part) for part in self.message.split("…"))
        assert any(re.match(pattern, line) for line in lines), lines


def section_of(heading: str) -> str:
    """The page below a heading."""
    (own,) = (text for text in re.split(r"^## ", PAGE, flags=re.M) if text.startswith(f"{heading}\n"))
    return own


def rows_of(heading: str) -> list[Row]:
    """The table below a heading."""
    lines = [line for line in section_of(heading).splitlines() if line.startswith("|")][2:]
    cells = [re.fullmatch(r"\| (.+) \| (.+) \| (.+) \| `(\w+)` \|", line).groups() for line in lines]
    return [Row(given, met, message.replace("\\|", "|"), name) for given, met, message, name in cells]
