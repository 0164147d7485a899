import csv
import json
import re
from base64 import b64decode
from hashlib import sha256

import pytest
from custom_components.diagnosis.case_folder import finished_cases
from custom_components.reports.queue.overview import write_overview
from custom_components.reports.scan.report import write_report
from PIL import Image

from tests.browser import Browser
from tests.html_tags import Tags
from tests.reports.scan.test_report import by_hand

WARNED = ("Slices are 8 mm apart.", "The lung mask is implausible.")


@pytest.fixture
def folder(tmp_path):
    """Finished cases b_2 (two warnings), a_10 and a_9 (none), and c of an earlier version with few entries."""
    for name, warnings in (("b_2", WARNED), ("a_10", ()), ("a_9", ())):
        write_report(by_hand(case_id=name, warnings=warnings), tmp_path / name)
    Image.new("RGB", (336, 168), "red").save(tmp_path / "b_2" / "thumbnail.png")
    old = json.loads((tmp_path / "a_9" / "report.json").read_text())
    old = {**old, "case_id": "c", "infection": None, "lesions": None, "warnings": ["old"]}
    for key in ("distribution", "agreement", "consistency", "left_out", "reading"):
        del old[key]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "report.json").write_text(json.dumps(old))
    return tmp_path


def overview_of(folder, failed):
    return write_overview(folder, finished_cases(folder), failed)


def rows_of(folder):
    with (folder / "overview.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_failed_and_warned_cases_are_on_top_then_natural_order(folder):
    overview_of(folder, {"d": "Case d: no CT."})
    rows = rows_of(folder)
    assert [row["case_id"] for row in rows] == ["d", "b_2", "c", "a_9", "a_10"]
    assert [row["why"] for row in rows[:3]] == ["failed: Case d: no CT.", "; ".join(WARNED), "old"]


def test_the_numbers_are_those_of_the_reports_and_unknown_ones_are_empty(folder):
    overview_of(folder, {"d": "?"})
    rows = {row["case_id"]: row for row in rows_of(folder)}
    expected = {
        "lungs_ml": "0.72",
        "infection_ml": "0.05",
        "infection_percent": "6.9444",
        "ct_score": "",
        "p_final": "",
    }
    expected |= {"ground_glass_ml": "0.01", "consolidation_ml": "0.05", "pleural_effusion_ml": "0.06"}
    assert {key: rows["a_9"][key] for key in expected} == {**expected, "ct_score": "0"}
    assert {rows["c"][key] for key in expected if key != "lungs_ml"} == {""}
    assert {rows["d"][key] for key in expected} == {""}


def test_unfinished_cases_and_damaged_reports_are_left_out(folder, caplog):
    write_report(by_hand(case_id="e"), folder / "e.incomplete")
    (folder / "a_9" / "report.json").write_text("{")
    overview_of(folder, {})
    assert [row["case_id"] for row in rows_of(folder)] == ["b_2", "c", "a_10"]
    assert "the overview leaves this case out" in caplog.text


def test_a_single_case_has_no_overview(tmp_path):
    write_report(by_hand(), tmp_path / "012")
    assert overview_of(tmp_path, {}) is None
    assert [path.name for path in tmp_path.iterdir()] == ["012"]


def test_the_page_links_to_reports_and_runs_only_its_own_script(folder):
    page = overview_of(folder, {"<b>d</b>": "a < b"}).read_text(encoding="utf-8")
    tags = Tags(page)
    assert [link["href"] for link in tags.of("a")] == ["b_2/report.html", "a_9/report.html", "a_10/report.html"]
    assert [len(b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))) > 100 for image in tags.of("img")] == [
        True
    ]
    policy = re.search(r"script-src 'sha256-([^']+)'", tags.of("meta")[1]["content"])
    script = page.split("<script>")[1].split("</script>")[0]
    assert policy is not None
    assert b64decode(policy[1]) == sha256(script.encode()).digest()
    assert "<b>d" not in page
    assert not re.search(r"https?:|@import|url\(", page)


def test_a_click_on_a_title_sorts_by_number_with_unknown_ones_last(folder, chromium, tmp_path):
    write_report(by_hand(case_id="large", infection=by_hand().lungs.clip(0, 1)), folder / "large")
    page = overview_of(folder, {})
    cases = "[...document.querySelectorAll('tbody th')].map(cell => cell.textContent)"
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open(page, "document.readyState === 'complete'")
        assert browser.value(cases) == ["b_2", "c", "large", "a_9", "a_10"]
        browser.click("th:nth-child(5) button")
        assert browser.value(cases)[-2:] == ["large", "c"]
        browser.click("th:nth-child(5) button")
        assert browser.value(cases)[0] == "large"
        assert browser.value(cases)[-1] == "c"
        browser.click("th:nth-child(2) button")
        assert browser.value(cases) == ["a_9", "a_10", "b_2", "c", "large"]
        assert browser.complaints == []
