"""Self-contained HTML pages: escaping templates and embedded pictures."""

import io
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import jinja2
from PIL import Image


def page_template(folder: str, name: str, filters: Mapping[str, Any]) -> jinja2.Template:
    """Load a template of the package.

    Args:
        folder: folder of the template below ``custom_components``.
        name: file name of the template.
        filters: template filters by name.

    Returns:
        The template; inserted texts are escaped, and an undefined name is an error.
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
    """Encode a PNG as a data URI, for ``src`` of ``img``.

    Example:
        >>> png_data_uri(b"PNG")
        'data:image/png;base64,UE5H'
    """
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


def picture_data_uri(picture: Image.Image) -> str:
    """Encode a picture as a data URI, for ``src`` of ``img``."""
    png = io.BytesIO()
    picture.save(png, format="PNG")
    return png_data_uri(png.getvalue())
