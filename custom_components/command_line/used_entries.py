"""Which entries of a config a run uses."""

import json
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver


def used_entries(content: Mapping[str, Any], *verbs: str) -> set[str]:
    """Find the entries of a config that a run uses, by following references.

    Args:
        content: unparsed config content.
        verbs: config ids to run, besides ``initialize``.

    Returns:
        Config ids, with ``::`` between their parts.

    Example:
        >>> sorted(used_entries({"epochs": 20, "seed": 0, "scored": {"by": "@seed"}, "run": ["@scored"]}, "run"))
        ['run', 'scored', 'seed']
    """
    parser = ConfigParser(json.loads(json.dumps(content, default=str).replace('"%', '"@')))  # macros are references too
    used, asked = set(), [*verbs, "initialize"]
    while asked:
        id_ = asked.pop()
        if id_ not in used and id_ in parser:
            used.add(id_)
            asked += ReferenceResolver.find_refs_in_config(parser[id_], id=id_)
    return used


def is_used(key: str, used: set[str]) -> bool:
    """Whether an entry is used, a part of it, or what it is a part of.

    Example:
        >>> [is_used(key, {"train::loader", "seed"}) for key in ("train#loader#size", "train", "train#trainer", "see")]
        [True, True, False, False]
    """
    name = normal(key)
    return any(f"{one}::".startswith(f"{name}::") or f"{name}::".startswith(f"{one}::") for one in used)


def normal(key: str) -> str:
    """A config key as an id, with ``::`` and without the sign that merges."""
    return key.lstrip("+").replace("#", "::")
