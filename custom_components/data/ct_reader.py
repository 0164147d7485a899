"""Old place of `custom_components.images.ct_reader`: imports from here work until the next release."""

import warnings
from importlib import import_module
from typing import Any

NEW = "custom_components.images.ct_reader"


def __getattr__(name: str) -> Any:
    if not name.startswith("__"):
        warnings.warn(f"{__name__} has moved to {NEW}: change the import.", DeprecationWarning, stacklevel=2)
    return getattr(import_module(NEW), name)
