"""Versions that all nodes of a run must have, and how two computers differ."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from custom_components._version import __version__

# Libraries whose versions must be the same on all nodes; results may differ otherwise.
LIBRARIES = ("torch", "monai", "numpy")


def code_versions() -> dict[str, str]:
    """Versions of Python, of this package and of its libraries, by name."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"Python": platform.python_version(), "custom_components": __version__, **libraries}


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """What differs between the computer of the command and a node; empty if nothing does.

    Example:
        >>> differences({"torch": "2.9", "numpy": "2.3"}, {"torch": "2.8", "numpy": "2.3"})
        'torch is 2.8 there and 2.9 here'
    """
    names = [name for name in dict.fromkeys((*here, *there)) if here.get(name) != there.get(name)]
    return ", ".join(f"{name} is {_shown(there.get(name))} there and {_shown(here.get(name))} here" for name in names)


def _shown(value: Any) -> str:
    return "missing" if value is None else str(value)[:12]
