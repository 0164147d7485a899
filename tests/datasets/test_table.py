import re

from custom_components.command_line.verbs import VERBS
from custom_components.datasets.table import SETS


def test_each_set_has_a_verb_a_licence_a_page_and_a_citation():
    for one in SETS:
        assert one.command.split()[0] in VERBS
        assert one.licence
        assert re.match(r"https?://\S+$", one.page)
        assert re.search(r"\d{4}, doi:10\.\d+/\S+", one.citation)


def test_each_set_is_listed_once():
    assert len({one.name for one in SETS}) == len({one.command.split()[0] for one in SETS}) == len(SETS)
