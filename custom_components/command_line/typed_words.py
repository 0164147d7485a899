"""Words of a command line: the option that each belongs to, and the value that was typed."""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fire.parser import DefaultParseValue

NOTHING = ("None", "null")
SWITCH = {"true": True, "false": False}
# What people write for them, which is refused as a value and not taken for another word.
LIKE_SWITCH = (*SWITCH, "yes", "no", "on", "off", "0", "1")

_OPTION = re.compile(r"--|-[a-zA-Z]")
_QUOTES = ("'", '"')


class OptionError(ValueError):
    """A command line that cannot be used; it ends a program with status 2, before any work."""


def split_words(words: Sequence[str], switches: Collection[str] = ()) -> tuple[list[str], dict[str, str | None]]:
    """Tell the values of options from the words that stand for themselves.

    Args:
        words: of a command line, the program left out.
        switches: options that are true or false: a word after one of them that looks like neither is not its value.

    Returns:
        Words that follow no option, and the text of each option by its name, ``-`` replaced by ``_``; None for an
        option without a value. The last one counts where an option is given twice.

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
    """A text as it was typed; None for the words ``None`` and ``null``. Quotes around the whole of it are removed.

    Example:
        >>> typed_text("2020.10"), typed_text("'None'"), typed_text("None")
        ('2020.10', 'None', None)
    """
    if text in NOTHING:
        return None
    unquoted = DefaultParseValue(text) if text.startswith(_QUOTES) else text
    return unquoted if isinstance(unquoted, str) else text


def typed_path(text: str) -> str | None:
    """A path as it was typed; ``~`` is the home folder, as in a shell, unless something of that name is there."""
    path = typed_text(text)
    if path is None or not (path == "~" or path.startswith("~/")) or os.path.lexists(path):
        return path
    return os.path.expanduser(path)  # noqa: PTH111  (a user without home keeps what was typed)


def typed_value(text: str) -> Any:
    """A number, list, mapping, true, false or nothing, where the text is one; else the text.

    Example:
        >>> typed_value("true"), typed_value("1e-3"), typed_value("[8, 16]"), typed_value("null"), typed_value("lsh")
        (True, 0.001, [8, 16], None, 'lsh')
    """
    if text in NOTHING:
        return None
    return SWITCH.get(text.lower(), DefaultParseValue(text))


def did_you_mean(word: str, known: Iterable[str], prefix: str = "--") -> str:
    """A question that names the nearest of some words; empty when none is near.

    Example:
        >>> did_you_mean("epcohs", ["epochs", "seed"])
        ' Did you mean --epochs?'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {prefix}{near[0]}?" if near else ""
