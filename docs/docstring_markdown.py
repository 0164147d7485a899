"""Docstrings as the Markdown that mkdocstrings expects (a griffe extension of mkdocs.yml)."""

import re
from typing import Any

import griffe

TABLE = re.compile(r"^(=+ +=.*\n(?:.*\n)*=+ +=.*)$", re.M)
ROLE = re.compile(r":(?:class|func):(`+)~?")


class DocstringMarkdown(griffe.Extension):
    """Sections named "Example", Sphinx's roles and its plain tables, as Markdown has them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring:
            text = obj.docstring.value.replace("Example:\n", "Examples:\n")
            obj.docstring.value = TABLE.sub(r"```text\n\1\n```", ROLE.sub(r"\1", text))
