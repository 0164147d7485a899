"""docs/bad_input.md has a row for each input of these tests, and no others."""

import pytest

from tests.bad_input import test_files, test_images, test_labels
from tests.bad_input.places import PLACES
from tests.bad_input.row import rows_of, section_of

SECTIONS = {"Files and lists": test_files, "Images": test_images, "Labels": test_labels}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_has_a_row_for_each_input(heading):
    rows, module = rows_of(heading), SECTIONS[heading]
    assert [row.name for row in rows] == list(module.INPUTS)
    assert {row.met for row in rows} <= PLACES.keys()
    assert all(len(row.message) > len("accepted: ") for row in rows)
    assert f"`{module.__name__.replace('.', '/')}.py`" in section_of(heading)
