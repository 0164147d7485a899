import tomllib
from pathlib import Path

import jinja2
import pytest
from custom_components.reports.html_page import page_template

from tools.package_bundles import packaged_files

ROOT = Path(__file__).resolve().parents[2]

STUDY = {
    **{"title": "t", "notice": "n", "protocols": {"": "<b>bold</b>"}, "failed": (), "sections": []},
    **{"provenance": [], "tables": "", "figures": "", "provenance_name": ""},
}
FILTERS = {"picture": str, "is_table": bool, "unbroken": str}


def test_texts_are_escaped():
    page = page_template("study/report", "study.html.j2", FILTERS).render(STUDY)
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page


def test_a_missing_value_is_an_error():
    lacking = {name: value for name, value in STUDY.items() if name != "notice"}
    with pytest.raises(jinja2.UndefinedError, match="notice"):
        page_template("study/report", "study.html.j2", FILTERS).render(lacking)


@pytest.mark.parametrize("template", ["reports/scan/report.html.j2", "study/report/study.html.j2"])
@pytest.mark.parametrize("bundle", ["covid_cap_bundle", "covid_seg_bundle"])
def test_the_templates_are_in_wheel_and_bundles(bundle, template):
    assert f"custom_components/{template}" in packaged_files(ROOT / bundle)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["custom_components"]
    assert any(Path(template).match(pattern) for pattern in patterns)
