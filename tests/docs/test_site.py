"""The documentation site, as `make docs` builds it: strictly, so that a broken link is an error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import custom_components
import pytest

pytest.importorskip("mkdocs", reason="needs the packages of the docs extra: make setup")
ROOT = Path(__file__).resolve().parents[2]
NAMES = [name for name in custom_components.__all__ if not name.startswith("_")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_public_name_has_a_page_with_its_docstring(site: Path) -> None:
    overview = (site / "reference/index.html").read_text(encoding="utf-8")
    for name in NAMES:
        page = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        assert f'id="{custom_components._modules()[name]}.{name}' in page
        assert f'href="{name}.html">{name}</a>' in overview


def test_every_document_is_on_the_site(site: Path) -> None:
    tracked = ["git", "-C", str(ROOT), "ls-files", "*.md", ":!.github"]
    documents = subprocess.run(tracked, capture_output=True, encoding="utf-8", check=True).stdout.split()
    places = [re.sub(r"README\.md$", "index.md", name).removesuffix(".md") for name in documents]
    assert [place for place in places if not (site / f"{place}.html").is_file()] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    elsewhere = re.compile(r"""<(script|img|iframe)[^>]*\ssrc="?https?:|<link[^>]*\shref="?https?:|url\(["']?https?:""")
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert [str(file) for file in files if elsewhere.search(file.read_text(encoding="utf-8"))] == []


def test_equations_are_drawn_without_a_script(site: Path) -> None:
    page = (site / "reference/NormalizedMSELoss.html").read_text(encoding="utf-8")
    assert "<math" in page
    assert "arithmatex" not in page
