"""The pages are checked by axe-core, as a screen reader or a keyboard would meet them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from custom_components.diagnosis.case_folder import finished_cases
from custom_components.reports.queue.overview import write_overview
from custom_components.reports.scan.report import write_report
from custom_components.reports.scan.viewer import write_viewer

from tests.browser import Browser
from tests.reports.scan.test_report import by_hand
from tests.reports.scan.test_viewer import READY

LOADED = "document.readyState === 'complete'"


def overview(folder: Path) -> Path:
    for name, warnings in (("a", ()), ("b", ("Slices are 8 mm apart.",))):
        write_report(by_hand(case_id=name, warnings=warnings), folder / name)
    return write_overview(folder, finished_cases(folder), {"c": "no plausible lungs"})


PAGES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "report": (lambda folder: write_report(by_hand(), folder)[1], LOADED),
    "viewer": (lambda folder: write_viewer(by_hand(), folder), READY),
    "overview": (overview, LOADED),
}


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(name, chromium, tmp_path):
    write, ready = PAGES[name]
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open(write(tmp_path), ready)
        assert browser.faults() == []
