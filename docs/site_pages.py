"""Pages of the documentation site (a hook of mkdocs.yml): the repository's own Markdown, and the public index.

Files keep their place below the root of the repository, so that a link works on the site as it does in the repository.
The reference has a page for each name of ``custom_components.__all__``, by the rooms of the package; their text is that
of the docstrings, read without an import.
"""

import functools
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert as to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
MARKDOWN = ("*.md", "docs/*.md", "covid_*_bundle/docs/*.md")
OVERVIEW = "reference/index.md"


def on_config(config: MkDocsConfig) -> None:
    """Add the reference to the navigation, by room."""
    rooms = [{room: [{name: f"reference/{name}.md"} for name in names]} for room, names in public_names().items()]
    config.nav = [*(config.nav or []), {"Reference": [{"Overview": OVERVIEW}, *rooms]}]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what lies in docs_dir by all pages, and the files that they link to."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    pages = [path for pattern in MARKDOWN for path in sorted(ROOT.glob(pattern))]
    linked = [path for page in pages for path in linked_files(page)]
    for path in dict.fromkeys([*pages, *linked, ROOT / "docs/site.css"]):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for uri, text in reference_pages():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_content(html: str, **_: Any) -> str:
    """Equations as MathML, which browsers draw by themselves."""
    equation = r'<span class="arithmatex">\\\((.*?)\\\)</span>'
    return re.sub(equation, lambda found: to_mathml(unescape(found[1])), html, flags=re.S)


def linked_files(page: Path) -> list[Path]:
    """Files other than pages that a page links to."""
    targets = re.findall(r"\]\((?!\w+:)([^)#]+)", page.read_text(encoding="utf-8"))
    paths = [(page.parent / target).resolve() for target in targets]
    return [path for path in paths if path.is_file() and path.suffix != ".md" and path.is_relative_to(ROOT)]


def reference_pages() -> Iterator[tuple[str, str]]:
    """Place and text of the page of each public name, and of the overview with the rooms' own sentences."""
    overview = ["# Reference", "", "The names that a config may put in `_target_`, as `custom_components.NAME`."]
    for room, names in public_names().items():
        overview += ["", f"## {room}", "", text_of(package()[room]), ""]
        for name in names:
            found = package()[name]
            module = found if found.is_module else found.final_target.module
            members = "" if found.is_module else f"\n    options:\n      members: [{name}]"
            yield f"reference/{name}.md", f"# {name}\n\n::: {module.path}{members}\n"
            overview.append(f"- [{name}]({name}.md): {first_line(found)}")
    overview += ["", "## Rooms without names for a config", ""]
    others = [room for room in package().modules.values() if room.is_package and room.name not in public_names()]
    overview += [f"- `{room.name}`: {first_line(room)}" for room in sorted(others, key=lambda room: room.name)]
    yield OVERVIEW, "\n".join(overview)


@functools.cache
def package() -> Any:
    """The package as griffe reads it."""
    extensions = griffe.load_extensions(ROOT / "docs/docstring_markdown.py")
    return griffe.load("custom_components", search_paths=[ROOT], extensions=extensions)


def public_names() -> dict[str, list[str]]:
    """Public names by room, in the order of the rooms' names."""
    rooms: dict[str, list[str]] = {}
    for name in package().exports:
        if not name.startswith("_"):
            found = package()[name]
            path = found.target_path if found.is_alias else found.path
            rooms.setdefault(path.split(".")[1], []).append(name)
    return dict(sorted(rooms.items()))


def text_of(found: Any) -> str:
    """The docstring of a room or name; without one the site is not built."""
    if found.docstring is None:
        raise ValueError(f"{found.path} has no docstring. Say in a sentence what it is.")
    return str(found.docstring.value)


def first_line(found: Any) -> str:
    """The first sentence of a docstring."""
    return text_of(found).splitlines()[0]
