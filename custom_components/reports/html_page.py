"""Pages that are one file: templates that escape what they are given, and pictures inside the page."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import jinja2


def page_template(folder: str, name: str, filters: Mapping[str, Any]) -> jinja2.Template:
    """Load a template of the package.

    Args:
        folder: of the package, below ``custom_components``.
        name: file name of the template.
        filters: functions that the template calls, by their names in it.

    Returns:
        The template; texts put into it are escaped, and a name that it is not given is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("custom_components", folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


def png_data_uri(png: bytes) -> str:
    """A PNG as the address of a picture that is inside its page.

    Args:
        png: contents of the file.

    Returns:
        What ``src`` of ``img`` takes.

    Example:
        >>> png_data_uri(b"PNG")
        'data:image/png;base64,UE5H'
    """
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
