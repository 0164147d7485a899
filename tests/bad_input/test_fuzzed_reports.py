"""Whatever stands in a name, a text or a number, a report is written as a whole, or refused in words before it is."""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from custom_components.files.report_files import write_csv
from custom_components.reports.html_page import page_template
from custom_components.reports.scan import page as scan_page
from custom_components.reports.scan.findings import Model, ScanFindings, Scores
from custom_components.reports.scan.report import HTML_NAME, JSON_NAME, write_report
from custom_components.reports.score_tables import diagnosis_table, score_table
from custom_components.study.report.study_report import Section
from custom_components.study.tables.table import Cell, Table, table_frame
from custom_components.study.tables.table_files import table_files
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bad_input.test_fuzzed_lists import VALUES
from tests.reports.conftest import phantom_findings

MARKUP = '"><script>alert(1)</script><img src=x onerror=y>{{ 7 }}</section>'
TEXTS = st.text(st.characters(), min_size=1, max_size=9) | st.just(MARKUP)
NUMBERS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1.0])
FUZZED = settings(derandomize=True, max_examples=30, deadline=None)


class Tags(HTMLParser):
    """Start tags of a page, each with the names of its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, *sorted(name for name, _ in attrs)))


@pytest.fixture(scope="module")
def findings() -> Iterator[ScanFindings]:
    """Of a phantom whose pictures are drawn once: they show no text of the findings, and take most of the time."""
    known = phantom_findings((36, 34, 7), (10.8, 9.6, 41.0))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_overview", "draw_slices", "draw_profile", "heat_scale"):
            patch.setattr(scan_page, name, cache_of(getattr(scan_page, name)))
        patch.setattr(scan_page, "picture_data_uri", lambda picture: "data:image/png;base64,")
        yield known


def cache_of(draw: Callable[..., Any]) -> Callable[..., Any]:
    made: list[Any] = []

    def call(*args: Any) -> Any:
        made[:] = made or [draw(*args)]
        return made[0]

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("reports")


def with_texts(findings: ScanFindings, texts: Sequence[str]) -> ScanFindings:
    """The findings with another text in every place that has one."""
    assert findings.series is not None
    case_id, patient_id, lungs, infection, stage, not_done, uid, study_uid, description, reason, *others = texts
    series = replace(
        findings.series,
        **{"uid": uid, "study_uid": study_uid, "description": description, "reason": reason},
        left_out={others[0]: others[1]},
    )
    return replace(
        findings,
        **{"case_id": case_id, "patient_id": patient_id, "lung_source": lungs, "infection_source": infection},
        series=series,
        models=(Model(*others[2:7]),),
        seconds={stage: 1.0},
        not_done=(not_done,),
        warnings=(not_done,),
    )


@pytest.fixture(scope="module")
def plain(findings, folder) -> set[tuple[str, ...]]:
    """Tags of a report whose texts have no signs."""
    _, page = write_report(with_texts(findings, ["plain"] * 17), folder / "plain")
    return Tags(page.read_text(encoding="utf-8")).found


@FUZZED
@given(texts=st.lists(TEXTS, min_size=17, max_size=17))
def test_any_text_in_a_scan_report_is_text(findings, plain, folder, texts):
    numbers, page = write_report(with_texts(findings, texts), folder / "texts")
    assert Tags(page.read_text(encoding="utf-8")).found <= plain
    assert read_strictly(numbers)["case_id"] == texts[0]


def read_strictly(path: Path) -> Any:
    """JSON as the standard has it, without NaN and infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path.name}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def written_or_refused(findings: ScanFindings, folder: Path, **changes: Any) -> None:
    """Both files of the report of changed findings, or neither and a message that names the case."""
    for name in (JSON_NAME, HTML_NAME):
        (folder / name).unlink(missing_ok=True)
    message = ""
    try:
        write_report(replace(findings, **changes), folder)
    except ValueError as error:
        message = str(error)
    written = {path.name for path in folder.glob("report.*")}
    assert written == (set() if message else {JSON_NAME, HTML_NAME})
    assert not message or message.startswith(f"Case {findings.case_id}: ")
    if written:
        read_strictly(folder / JSON_NAME)


@FUZZED
@given(numbers=st.lists(NUMBERS, min_size=5, max_size=5), seconds=NUMBERS)
def test_any_scores_are_reported_or_refused(findings, folder, numbers, seconds):
    for scores in (Scores(*numbers), replace(findings.scores, threshold=numbers[0])):
        written_or_refused(findings, folder / "scores", scores=scores, seconds={"read": seconds})


@FUZZED
@given(row=st.integers(0, 3), column=st.integers(0, 3), value=NUMBERS)
def test_any_affine_is_reported_or_refused(findings, folder, row, column, value):
    affine = findings.affine.copy()
    affine[row, column] = value
    written_or_refused(findings, folder / "affines", affine=affine)


@FUZZED
@given(
    cells=st.lists(st.tuples(TEXTS, NUMBERS, NUMBERS, NUMBERS, TEXTS), min_size=1, max_size=4, unique_by=lambda c: c[0])
)
def test_any_cell_of_a_study_is_text(folder, cells):
    rows = {(name,): {"score": Cell(value, low, high), "text": text} for name, value, low, high, text in cells}
    table = Table("table_1", cells[0][0], cells[-1][4], table_frame(rows, ["system"]))
    for name, content in table_files(table).items():
        (folder / name).write_bytes(content.encode(errors="replace"))
    assert study_tags(table) <= study_tags(Table("t", "t", "t", table_frame({("a",): {"b": "c"}}, ["d"])))


def study_tags(table: Table) -> set[tuple[str, ...]]:
    filters = {"picture": str, "is_table": lambda block: isinstance(block, Table), "unbroken": str}
    page = page_template("study/report", "study.html.j2", filters).render(
        title=table.title, notice=table.note, protocols={"": table.note}, failed=(),
        sections=[Section("key", table.title, [table])], provenance=[(table.title, table.note)],
        tables="tables", figures="figures", provenance_name="provenance.json",
    )  # fmt: skip
    return Tags(page).found


@FUZZED
@given(rows=st.lists(st.dictionaries(TEXTS, TEXTS | NUMBERS | st.none(), max_size=3), max_size=3))
def test_any_table_is_written(folder, rows):
    write_csv(folder / "any.csv", rows)
    with (folder / "any.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + len(rows)


@FUZZED
@given(content=VALUES)
def test_any_summary_becomes_a_table_or_is_refused(folder, content):
    path = folder / "summary.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    for table in (score_table, diagnosis_table):
        with pytest.raises(ValueError, match=r"is not a summary\.json of an evaluation"):
            table(path)


def test_a_name_that_is_no_unicode_does_not_end_an_evaluation(folder):
    write_csv(folder / "latin_1.csv", [{"case_id": os.fsdecode(b"caf\xe9"), "dice": 0.5}])
    assert (folder / "latin_1.csv").read_text(encoding="utf-8") == "case_id,dice\ncaf?,0.5\n"
