"""What a hostile data set puts into a report, in a real browser: it stays text."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
from custom_components.reports import html_page
from custom_components.reports.scan.report import write_report
from custom_components.reports.scan.viewer import render_viewer
from custom_components.study.report.seg_report import seg_report
from custom_components.study.report.study_report import write_study

from tests.reports.conftest import phantom_findings
from tests.study.results_by_hand import segmentation_results

# What a script that ran leaves behind; no text of a page spells it out.
RAN = 'data-ran="yes"'
SET = "document.documentElement.setAttribute('data-'+'ran','yes')"
HOSTILE = (f"</style><script>{SET}</script>", f'<img src=x onerror="{SET}">', f'"><svg onload="{SET}">')
POLICY = "Content-Security-Policy"


@pytest.fixture
def shown(chromium, tmp_path) -> Callable[[str], str]:
    """The page as a browser has it after its scripts have run."""

    def call(page: str) -> str:
        path = tmp_path / "page.html"
        path.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options += ["--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        done = subprocess.run(
            [chromium, *options, path.as_uri()], capture_output=True, encoding="utf-8", check=True, timeout=120
        )
        return done.stdout

    return call


@pytest.fixture(scope="module")
def findings():
    return phantom_findings((40, 36, 13), (9.7, 9.0, 22.0))


def hostile_report(findings, folder: Path) -> str:
    """A scan whose every text is a script, as `--include_patient_id` shows it."""
    series = findings.series
    assert series is not None
    first, second, third = HOSTILE
    series = replace(series, description=first, reason=second, left_out={third: first})
    models = tuple(
        replace(model, name=text, trained_on=text) for model, text in zip(findings.models, HOSTILE, strict=True)
    )
    texts = {"case_id": first, "patient_id": second, "lung_source": third, "not_done": HOSTILE}
    return write_report(replace(findings, series=series, models=models, **texts), folder)[1].read_text(encoding="utf-8")


def hostile_study(folder: Path) -> str:
    results = segmentation_results(folder / "panels")
    own = (results.scores["network"] == "M") & (results.scores["protocol"] == "group")
    scores = results.scores[own].assign(network=HOSTILE[0])
    results = replace(results, scores=scores, networks=(HOSTILE[0],), protocols={"group": HOSTILE[1]}, overlays={})
    provenance = {"versions": {HOSTILE[2]: HOSTILE[0]}, "seeds": [0]}
    return write_study(seg_report(results, 10), provenance, folder).read_text(encoding="utf-8")


def hostile_viewer(findings) -> list[str]:
    """Viewers of cases named after scripts, which would end a tag or an element."""
    return [render_viewer(replace(findings, case_id=text)) for text in (*HOSTILE, f"</script><script>{SET}</script>")]


def without_policy(page: str) -> str:
    """The page as it would be without its second guard."""
    lines = page.splitlines(keepends=True)
    kept = [line for line in lines if POLICY not in line]
    assert len(kept) == len(lines) - 1
    return "".join(kept)


@pytest.fixture
def unescaped(monkeypatch) -> None:
    """Templates as they would be without their first guard."""

    class Careless(jinja2.Environment):
        def __init__(self, **options) -> None:
            super().__init__(**{**options, "autoescape": False})

    monkeypatch.setattr(html_page.jinja2, "Environment", Careless)


def test_escaping_alone_keeps_scripts_from_running(findings, tmp_path, shown):
    for page in (hostile_report(findings, tmp_path / "a"), hostile_study(tmp_path / "b")):
        found = shown(without_policy(page))
        assert "&lt;script&gt;" in found
        assert RAN not in found


def test_the_viewer_runs_no_script_of_a_name_with_either_guard(findings, shown):
    for page in hostile_viewer(findings):
        assert RAN not in shown(page)
        assert RAN not in shown(without_policy(page))


def test_the_policy_alone_keeps_the_viewer_from_running_others(findings, shown, unescaped):
    pages = hostile_viewer(findings)
    assert not any(RAN in shown(page) for page in pages)
    assert any(RAN in shown(without_policy(page)) for page in pages)


def test_the_policy_alone_keeps_scripts_from_running(findings, tmp_path, shown, unescaped):
    found = shown(hostile_report(findings, tmp_path))
    assert "<script>" in found
    assert RAN not in found


def test_without_both_they_would_run(findings, tmp_path, shown, unescaped):
    """So that the tests above can fail."""
    for page in (hostile_report(findings, tmp_path / "a"), hostile_study(tmp_path / "b")):
        assert RAN in shown(without_policy(page))


def test_pictures_and_colours_are_those_that_the_policy_allows(findings, tmp_path, shown):
    """A picture that the policy kept out would have no size, and a style no effect."""
    page = write_report(findings, tmp_path)[1].read_text(encoding="utf-8")
    probe = (
        "<script>addEventListener('load', () => document.documentElement.setAttribute('data-'+'seen',"
        "[...document.images].every(i => i.naturalWidth > 0) + ' ' + document.images.length + ' ' +"
        "getComputedStyle(document.querySelector('h1')).fontSize))</script>"
    )
    allowed = page.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';")
    found = shown(allowed.replace("</body>", f"{probe}</body>"))
    images = page.count("<img ")
    assert images >= 4
    assert f'data-seen="true {images} 20px"' in found
