import re
from pathlib import Path

from custom_components.command_line.verbs import VERBS
from custom_components.datasets.table import SETS, datasets

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_page_has_the_table():
    assert datasets() in PAGE.read_text(encoding="utf-8")


def test_each_set_has_a_verb_a_licence_a_page_and_something_to_cite():
    for one in SETS:
        assert one.command.split()[0] in VERBS
        assert one.licence
        assert re.match(r"https://\S+$", one.page)
        assert re.search(r"\d{4}, doi:10\.\d+/\S+", one.citation)


def test_each_set_is_listed_once():
    assert len({one.name for one in SETS}) == len({one.command.split()[0] for one in SETS}) == len(SETS)
