"""Both scans of a comparison in a browser, moved together."""

import io
import re
from base64 import b64encode
from hashlib import sha256

import numpy as np
import pytest
from custom_components.followup import comparison as module
from custom_components.followup.comparison import compare_scans
from custom_components.reports.scan.page import VIEWER_NAME
from PIL import Image

from tests.browser import Browser
from tests.followup.pairs_of_scans import planted_pair, planted_registration

READY = "document.body?.dataset.ready === 'yes'"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "result"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "register_lungs", lambda later, earlier: planted_registration())
        compare_scans(*planted_pair(), folder)
    return folder / VIEWER_NAME


@pytest.fixture(scope="module")
def browser(chromium, page, tmp_path_factory):
    with Browser(chromium, tmp_path_factory.mktemp("profile")) as browser:
        browser.open(page, READY)
        yield browser


def picture(browser, side):
    return np.asarray(Image.open(io.BytesIO(browser.picture(f"#{side}"))).convert("RGB")).astype(int)


def where(browser):
    return int(re.match(r"Slice (\d+) of the later scan", browser.text("#where"))[1])


def red(shown):
    """Pixels of new infection: redder than green and blue."""
    return int(np.count_nonzero(shown[..., 0] - np.maximum(shown[..., 1], shown[..., 2]) > 40))


def test_the_policy_names_both_scripts_and_nothing_is_loaded(page, browser):
    text = page.read_text(encoding="utf-8")
    policy = re.search(r"script-src ([^;]*);", text)[1].split()
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert set(policy) == {f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in scripts}
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert browser.faults() == []


def test_keys_the_wheel_and_a_click_move_both_scans(browser):
    start = where(browser)
    before = {side: picture(browser, side) for side in ("earlier", "later")}
    browser.key("ArrowUp")
    assert where(browser) == start + 1
    after = {side: picture(browser, side) for side in before}
    for side, shown in before.items():
        assert np.abs(shown - after[side]).max() > 20
    browser.key("ArrowDown")
    assert where(browser) == start
    browser.click("#earlier", 0.3, 0.4)
    places = browser.value("document.getElementById('slice').value")
    assert int(places) >= 0
    moved = {side: picture(browser, side) for side in before}
    for side, shown in before.items():
        assert np.abs(shown - moved[side]).max() > 20  # the crosshair of both


def test_a_change_of_the_list_is_shown_on_the_later_scan_and_can_be_hidden(browser):
    rows = browser.value("[...document.querySelectorAll('#regions tbody tr')].map(row => row.textContent)")
    assert any("new" in row for row in rows)
    assert any("resolved" in row for row in rows)
    number = next(index for index, row in enumerate(rows) if "new" in row)
    browser.click(f"[data-region='{number}']")
    assert browser.value(f"document.querySelectorAll('#regions tbody tr')[{number}].ariaCurrent") == "true"
    browser.click("#show-infection")
    shown = red(picture(browser, "later"))
    assert shown > 200
    assert red(picture(browser, "earlier")) < 150  # the letters at its border
    browser.click("#show-change")
    assert red(picture(browser, "later")) < 150
    browser.click("#show-infection")
    assert red(picture(browser, "earlier")) > 200
    browser.click("#show-change")


@pytest.mark.parametrize("view", ["coronal", "sagittal", "axial"])
def test_both_scans_are_shown_in_each_plane(view, browser):
    browser.click(f"[data-view='{view}']")
    for side in ("earlier", "later"):
        assert np.ptp(picture(browser, side)) > 100
