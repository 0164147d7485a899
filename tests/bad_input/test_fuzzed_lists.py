"""Whatever stands in a datalist or a table of labels, it is read, or refused in words."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from custom_components.datalists.label_table import read_label_table
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases
from custom_components.study.plans.study_data import further_columns
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bad_input.data_sets import cap_data, seg_list

FUZZED = settings(derandomize=True, max_examples=40, deadline=None)
# Also lone surrogates, as JSON may write them and file names in another encoding become.
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(["../x", "/etc/passwd", "a\0b", "x" * 300, ".", "NaN"])
SCALARS = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS
KEYS = ("case_id", "patient_id", "image", "lung", "infection", "label", "fold", "ratio", "group", "cases", "training")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=6),
    max_leaves=6,
)
# Without looking into the files, which takes most of the time.
READERS: dict[str, Callable[[Path], list[Any]]] = {
    "seg with masks": lambda path: list_cases(path, check_files=False),
    "seg without": lambda path: list_cases(path, require_labels=False, check_files=False),
    "cap with labels": lambda path: list_scans(path, check_files=False),
    "cap without": lambda path: list_scans(path, labelled=False, check_files=False),
}


@pytest.fixture(scope="module", params=READERS)
def reader(request, tmp_path_factory) -> tuple[Callable[[Path], list[Any]], Path]:
    """A reader, and a data set that it takes."""
    make = seg_list if request.param.startswith("seg") else cap_data
    return READERS[request.param], make(tmp_path_factory.mktemp("lists") / "data")


def read_or_refused(read: Callable[[Path], Any], path: Path) -> Any:
    """What is read; None when it is refused in words that name the list."""
    error, found = None, None
    try:
        found = read(path)
    except ValueError as caught:
        error = caught
    assert error is None or (type(error) is ValueError and str(path) in str(error))
    return found


def fuzzed(reader: tuple[Callable[[Path], Any], Path], content: Any) -> Any:
    read, data = reader
    path = data / "fuzzed.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_or_refused(read, path)
    if found is not None:
        assert all({"case_id", "image"} <= case.keys() for case in found)
        further = further_columns(path, found, KEYS)
        assert len(further) == len(found)
        assert not [value for case in further for value in case.values() if isinstance(value, list | dict)]
    return found


@FUZZED
@given(content=VALUES)
def test_any_json_is_read_or_refused(reader, content):
    fuzzed(reader, content)


@FUZZED
@given(entries=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=3), min_size=1, max_size=3))
@example(entries=[{"case_id": None, "image": [], "label": "cap"}])
def test_any_entries_are_read_or_refused(reader, entries):
    fuzzed(reader, {"cases": entries})


@FUZZED
@given(place=st.integers(0, 1), key=st.sampled_from(KEYS), value=VALUES)
def test_a_good_list_with_one_value_changed_is_read_or_refused(reader, place, key, value):
    cases = json.loads((reader[1] / "datalist.json").read_text(encoding="utf-8"))["cases"]
    cases[place][key] = value
    fuzzed(reader, {"cases": cases})


def test_a_study_reads_lists_and_objects_of_a_column_as_text(reader):
    content = json.loads((reader[1] / "datalist.json").read_text(encoding="utf-8"))
    for case in content["cases"]:
        case |= {"findings": ["fever", "cough"], "scanner": {"maker": "x"}}
    (reader[1] / "fuzzed.json").write_text(json.dumps(content), encoding="utf-8")
    found = reader[0](reader[1] / "fuzzed.json")
    further = further_columns(reader[1] / "fuzzed.json", found, KEYS)
    assert further[0] == {"findings": '["fever", "cough"]', "scanner": '{"maker": "x"}'}
    assert pd.DataFrame(further).nunique().to_dict() == {"findings": 1, "scanner": 1}


def test_the_list_that_is_changed_is_a_good_one(reader):
    content = json.loads((reader[1] / "datalist.json").read_text(encoding="utf-8"))
    assert len(fuzzed(reader, content)) == len(content["cases"])


@FUZZED
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(reader, content):
    path = reader[1] / "fuzzed.json"
    path.write_bytes(content)
    read_or_refused(reader[0], path)


def table_of(folder: Path, content: bytes) -> Any:
    path, problems = folder / "labels.csv", []
    path.write_bytes(content)
    table = read_or_refused(lambda path: read_label_table(path, problems), path)
    if table is not None:
        assert all(case["label"] in (0, 1) for case in table.cases)
        assert all(type(problem) is str and problem for problem in problems)
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


CELLS = TEXTS | st.sampled_from(["covid", "cap", "0", "3", "9" * 5000, "²", "-1", '"', "a\nb"])


@FUZZED
@given(st.lists(st.lists(CELLS, max_size=4), max_size=4))
def test_any_rows_are_read_or_refused(folder, rows):
    text = io.StringIO()
    csv.writer(text).writerows([["case_id", "label", "fold", "image"], *rows])
    table_of(folder, text.getvalue().encode(errors="surrogatepass"))


@FUZZED
@given(st.binary(max_size=80))
def test_a_table_of_any_bytes_is_read_or_refused(folder, content):
    table_of(folder, content)
    table_of(folder, b"case_id,label\n" + content)
