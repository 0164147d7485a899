"""Command line: ``python -m custom_components COMMAND --help``."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from custom_components._version import __version__
from custom_components.command_line.endings import WRONG_OPTIONS, ended_with_a_message
from custom_components.command_line.verbs import call_verb, overview, read_verb

HELP = ("--help", "-h")


def main() -> None:
    """Run one command. User errors end it with a message and status 1; COVID_TRACEBACK=1 shows the traceback.

    A wrong command line ends it with status 2 before any work.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with ended_with_a_message():
        answer = answer_to(sys.argv[1:])
    if answer is not None:
        sys.stdout.write(f"{answer}\n")


def answer_to(words: Sequence[str]) -> object:
    """Return what the command line asks for: help, the version, or the result of the command.

    Args:
        words: arguments without the program name.

    Raises:
        SystemExit: with status 2, after the list of commands, when there are no arguments.
    """
    verb, *rest = words or ("",)
    if verb == "--version":
        return f"{__package__} {__version__}"
    if not verb:
        sys.stderr.write(overview(_program()))
        raise SystemExit(WRONG_OPTIONS)
    if verb in (*HELP, "help"):
        return overview(_program())
    if set(rest) & set(HELP):
        return read_verb(verb).help(_program())
    return call_verb(verb, rest)


def _program() -> str:
    """Name of this program as the user called it."""
    path = Path(sys.argv[0])
    return f"python -m {__package__}" if path.name == "__main__.py" else path.name


if __name__ == "__main__":
    main()
