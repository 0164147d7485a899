"""Tables, figures and report of a study."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.files.report_files import write_json
from custom_components.reports.html_page import page_template, png_data_uri
from custom_components.study.figures.drawing import Drawing, drawing_files
from custom_components.study.results.study_results import FailedRun
from custom_components.study.tables.table import Table
from custom_components.study.tables.table_files import table_files

TABLES, FIGURES = "tables", "figures"
HTML_NAME, PROVENANCE_NAME = "report.html", "provenance.json"

# Number of bootstrap resamples.
RESAMPLES = 2000

NOTICE = "Research use only. Not a medical device."

# Key of the provenance under which the report's own files are listed.
FILES_KEY = "report_files"

_MOST_ENTRIES = 40  # maximum number of list items from the provenance on the page


@dataclass(frozen=True)
class Section:
    """Section of the report: a heading with tables and figures.

    Args:
        key: target of links.
        title: heading.
        blocks: tables and figures in order.
    """

    key: str
    title: str
    blocks: Sequence[Table | Drawing]


@dataclass(frozen=True)
class Report:
    """Content of the report of a study.

    Args:
        title: title of the page.
        protocols: protocol name to description.
        failed: runs that did not finish.
        sections: sections in order; empty tables, then empty sections are omitted.
    """

    title: str
    protocols: Mapping[str, str]
    failed: Sequence[FailedRun]
    sections: Sequence[Section]

    def filled(self) -> list[Section]:
        """Sections that are not empty."""
        shown = [
            replace(section, blocks=[own for own in section.blocks if isinstance(own, Drawing) or not own.frame.empty])
            for section in self.sections
        ]
        return [section for section in shown if section.blocks]


def write_study(report: Report, provenance: Mapping[str, Any], folder: str | Path) -> Path:
    """Write ``tables/``, ``figures/``, ``provenance.json`` and, last, ``report.html``, which contains them all.

    Everything is computed before the first file is written, and each file is written atomically. If ``report.html``
    exists, the folder is complete. Files of an earlier report that are not in this one are removed; other files are
    not changed. The same results give the same bytes.

    Args:
        report: content of the report.
        provenance: versions, configs, hashes, times: numbers, strings, None, lists and mappings.
        folder: output folder; created if missing.

    Returns:
        Path of ``report.html``.

    Raises:
        ValueError: if the provenance is not valid JSON or the folder is not writable.
    """
    files: dict[str, bytes] = {}
    for block in (block for section in report.filled() for block in section.blocks):
        if isinstance(block, Table):
            texts = table_files(block)
            files |= {f"{TABLES}/{name}": text.encode(errors="replace") for name, text in texts.items()}
        else:
            files |= {f"{FIGURES}/{name}": content for name, content in drawing_files(block).items()}
    listed = {**provenance, FILES_KEY: sorted(files)}
    try:
        json.dumps(listed, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The provenance of the study is not valid JSON ({error}). Use numbers, strings, None, lists, mappings."
        ) from error
    return _written(writable_folder(folder), files, listed, _page(report, files, provenance))


def _page(report: Report, files: Mapping[str, bytes], provenance: Mapping[str, Any]) -> str:
    filters: dict[str, Any] = {
        "picture": lambda drawing: png_data_uri(files[f"{FIGURES}/{drawing.name}.png"]),
        "is_table": lambda block: isinstance(block, Table),
        "unbroken": _unbroken,
    }
    return page_template("study/report", "study.html.j2", filters).render(
        title=report.title,
        notice=NOTICE,
        protocols=report.protocols,
        failed=report.failed,
        sections=report.filled(),
        provenance=list(_flat(provenance)),
        tables=TABLES,
        figures=FIGURES,
        provenance_name=PROVENANCE_NAME,
    )


def _unbroken(text: str) -> str:
    """Cell text that may break across lines only before its interval."""
    for sign in (" to ", " ± ", " = ", "< "):
        text = text.replace(sign, sign.replace(" ", "\N{NO-BREAK SPACE}"))
    return text


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Dot-joined keys and values of nested mappings; long lists are shortened with a note."""
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            shown = ", ".join(map(str, value[:_MOST_ENTRIES]))
            more = len(value) - _MOST_ENTRIES
            yield name, f"{shown} and {more} more, in {PROVENANCE_NAME}" if more > 0 else shown
        else:
            yield name, "" if value is None else str(value)


def _written(folder: Path, files: Mapping[str, bytes], listed: Mapping[str, Any], page: str) -> Path:
    before = _earlier_files(folder)
    (folder / HTML_NAME).unlink(missing_ok=True)
    for name, content in files.items():
        with atomic_path(folder / name) as path:
            path.write_bytes(content)
    for name in before - set(files):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / PROVENANCE_NAME, listed)
    with atomic_path(folder / HTML_NAME) as path:
        path.write_text(page, encoding="utf-8", errors="replace")  # a file name may contain invalid Unicode
    return folder / HTML_NAME


def _earlier_files(folder: Path) -> set[str]:
    """Tables and figures of an earlier report in this folder, from its provenance."""
    try:
        names = json.loads((folder / PROVENANCE_NAME).read_text(encoding="utf-8"))[FILES_KEY]
        parts = {name: Path(name).parts for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name, (first, *rest) in parts.items() if first in (TABLES, FIGURES) and len(rest) == 1}
