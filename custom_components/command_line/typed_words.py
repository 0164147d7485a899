"""Parse a command line: the option of each argument, and the value as typed."""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fire.parser import DefaultParseValue

NOTHING = ("None", "null")
SWITCH = {"true": True, "false": False}
# Other spellings of true and false: reported as a wrong value, not read as another argument.
LIKE_SWITCH = (*SWITCH, "yes", "no", "on", "off", "0", "1")

_OPTION = re.compile(r"--|-[a-zA-Z]")
_QUOTES = ("'", '"')


class OptionError(ValueError):
    """A wrong command line; it ends the program with status 2 before any work."""


def split_words(words: Sequence[str], switches: Collection[str] = ()) -> tuple[list[str], dict[str, str | None]]:
    """Separate options with their values from positional words.

    Args:
        words: arguments without the program name.
        switches: boolean options: the next word is their value only if it looks like true or false.

    Returns:
        Positional words, and the text of each option by its name, ``-`` replaced by ``_``; None for an
        option without a value. If an option is given twice, the last one counts.

    Example:
        >>> split_words(["scan", "--output-dir=a=b", "--fold", "-1", "--dicom", "out"], switches=("dicom",))
        (['scan', 'out'], {'output_dir': 'a=b', 'fold': '-1', 'dicom': None})
    """
    places: list[str] = []
    options: dict[str, str | None] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _OPTION.match(word):
            places.append(word)
            continue
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        own = bool(rest) and not _OPTION.match(rest[0]) and (name not in switches or rest[0].lower() in LIKE_SWITCH)
        options[name] = text if equals else rest.pop(0) if own else None
    return places, options


def typed_text(text: str) -> str | None:
    """The text as typed, without surrounding quotes; None for the words ``None`` and ``null``.

    Example:
        >>> typed_text("2020.10"), typed_text("'None'"), typed_text("None")
        ('2020.10', 'None', None)
    """
    if text in NOTHING:
        return None
    unquoted = DefaultParseValue(text) if text.startswith(_QUOTES) else text
    return unquoted if isinstance(unquoted, str) else text


def typed_path(text: str) -> str | None:
    """The path as typed; ``~`` is the home folder, as in a shell, unless a file of that name exists."""
    path = typed_text(text)
    if path is None or not (path == "~" or path.startswith("~/")) or os.path.lexists(path):
        return path
    return os.path.expanduser(path)  # noqa: PTH111  (keeps the text for a user without home)


def typed_value(text: str) -> Any:
    """Parse a number, list, mapping, boolean or None; any other text stays a string.

    Example:
        >>> typed_value("true"), typed_value("1e-3"), typed_value("[8, 16]"), typed_value("null"), typed_value("lsh")
        (True, 0.001, [8, 16], None, 'lsh')
    """
    if text in NOTHING:
        return None
    return SWITCH.get(text.lower(), DefaultParseValue(text))


def did_you_mean(word: str, known: Iterable[str], prefix: str = "--") -> str:
    """Suggest the most similar known word; empty when none is similar.

    Example:
        >>> did_you_mean("epcohs", ["epochs", "seed"])
        ' Did you mean --epochs?'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {prefix}{near[0]}?" if near else ""
