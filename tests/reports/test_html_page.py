import jinja2
import pytest
from custom_components.reports.html_page import page_template

STUDY = {
    **{"title": "t", "notice": "n", "protocols": {"": "<b>bold</b>"}, "failed": (), "sections": []},
    **{"provenance": [], "tables": "", "figures": "", "provenance_name": ""},
}
FILTERS = {"picture": str, "is_table": bool, "unbroken": str}


def test_texts_are_escaped():
    page = page_template("study", "study.html.j2", FILTERS).render(STUDY)
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page


def test_what_a_page_was_not_given_is_an_error_and_no_gap():
    lacking = {name: value for name, value in STUDY.items() if name != "notice"}
    with pytest.raises(jinja2.UndefinedError, match="notice"):
        page_template("study", "study.html.j2", FILTERS).render(lacking)
