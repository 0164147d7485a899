"""docs/bad_input.md and these tests hold the same rows."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.bad_input import test_files, test_images, test_labels
from tests.bad_input.places import PLACES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad_input.md"
LEVELS = {"Files and lists": test_files.ROWS, "Images": test_images.ROWS, "Labels": test_labels.ROWS}
TEST_OF = {"Files and lists": "test_files", "Images": "test_images", "Labels": "test_labels"}


def table_of(level: str) -> list[str]:
    """The table's lines below a heading, without its head."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    [own] = [text for text in section if text.startswith(f"{level}\n")]
    return [line for line in own.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("level", LEVELS)
def test_the_page_has_the_rows_of_the_tests(level):
    assert table_of(level) == [row.line for row in LEVELS[level]]


@pytest.mark.parametrize("level", LEVELS)
def test_the_page_names_the_test(level):
    text = PAGE.read_text(encoding="utf-8")
    assert f"`tests/bad_input/{TEST_OF[level]}.py`" in text


def test_a_row_is_told_once_and_met_somewhere():
    for rows in LEVELS.values():
        assert not [name for name, count in Counter(row.name for row in rows).items() if count > 1]
        assert {row.met for row in rows} <= PLACES.keys()
