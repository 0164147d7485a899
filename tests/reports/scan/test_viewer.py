"""viewer.html: its content, and in a browser what a reader does with it."""

import base64
import gzip
import hashlib
import io
import json
import re
from dataclasses import replace
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
from custom_components.reports.scan.report import write_report
from custom_components.reports.scan.viewer import niivue_script, render_viewer, write_viewer
from PIL import Image

from tests.browser import Browser, Page
from tests.firefox import Firefox
from tests.html_tags import Tags
from tests.reports.conftest import UID, phantom_findings
from tests.reports.scan.test_report import ROOT, by_hand, stored_as

READY = 'document.body?.dataset.ready === "yes"'
STATES = ("full", "no classifier", "lungs only", "no infection", "one lung", "no lungs", "odd grid", "wordy")
VENDORED = ROOT / "custom_components/reports/scan/niivue"
MODEL_ZOO_LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def page_of(findings_of):
    return {state: render_viewer(findings_of[state]) for state in STATES}


def block(page: str, name: str) -> str:
    return re.search(rf'<script type="[^"]+" id="{name}">([^<]*)</script>', page)[1]


def scan_of(page: str) -> dict:
    return json.loads(block(page, "scan"))


def without_blocks(page: str) -> str:
    """What a reader and viewer.js see, without volumes, picture and niivue."""
    return re.sub(r"<script type=\"application/gzip\".*?</script>|base64,[^\"]+", "", page.replace(niivue_script(), ""))


def test_niivue_is_the_published_file_and_fits_into_a_bundle():
    licence = (VENDORED / "LICENSE").read_text(encoding="utf-8")
    packed = (VENDORED / "niivue.umd.js.gz").read_bytes()
    assert len(packed) < MODEL_ZOO_LIMIT
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() in licence
    assert "BSD 2-Clause License" in licence
    assert "</script" not in niivue_script().lower()


@pytest.mark.parametrize("state", STATES)
def test_the_page_is_self_contained_and_runs_only_its_two_scripts(state, page_of):
    page, tags = page_of[state], Tags(page_of[state])
    assert not {tag for tag, _ in tags.found} & {"link", "iframe", "object", "embed", "base", "form"}
    assert [attributes["href"] for attributes in tags.of("a")] == ["report.html"]
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    policy = tags.of("meta")[1]["content"]
    assert re.fullmatch(
        "default-src 'none'; script-src 'sha256-[^']+' 'sha256-[^']+'; img-src data: blob:; style-src 'unsafe-inline'",
        policy,
    )
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert re.findall("sha256-([^']+)", policy) == digests
    assert scripts[0] == niivue_script()
    assert not re.search(r"https?:", scripts[1].replace("http://www.w3.org/2000/svg", ""))
    assert "Research use only. Not a medical device, not for diagnosis." in " ".join(tags.text)
    assert "Copyright (c) 2021, Niivue" in page


@pytest.mark.parametrize("state", STATES)
def test_every_control_has_a_name(state, page_of):
    tags = Tags(page_of[state])
    labelled = {attributes["for"] for attributes in tags.of("label")}
    for control in tags.of("input"):
        assert "aria-label" in control or control["id"] in labelled
    assert all("aria-label" in attributes for tag in ("canvas", "svg") for attributes in tags.of(tag))
    assert all(attributes["alt"] for attributes in tags.of("img"))
    assert all("scope" in cell for cell in tags.of("th"))


def test_volumes_of_the_page_are_those_of_the_scan(findings_of, page_of):
    findings, page = findings_of["full"], page_of["full"]
    names = re.findall(r'id="volume-([a-z_]+)"', page)
    assert names == ["ct", "lungs", "infection", "lesions", "attention_us", "attention_ss"]
    assert [layer["name"] for layer in scan_of(page)["layers"]] == names[1:]
    images = [
        nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(block(page, f"volume-{name}")))) for name in names
    ]
    ras = nib.as_closest_canonical(nib.Nifti1Image(findings.image_hu, findings.affine))
    for image in images:
        assert image.shape == ras.shape
        np.testing.assert_allclose(image.affine, ras.affine, atol=1e-4)
    assert np.abs(images[0].get_fdata() - np.clip(ras.get_fdata(), -1024, 1016)).max() <= 4


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PSL", "IRA"])
def test_places_and_slices_are_those_of_the_patient_for_any_storage_order(orientation):
    scan = scan_of(render_viewer(stored_as(by_hand(), orientation)))
    # the second region: infection of voxels x = 0 (from the right), y = 0 to 2 (from the front), z = 3 (from below)
    assert scan["regions"][1] == pytest.approx([4.5 / 5, 4.5 / 6, 3.5 / 7], abs=1e-5)
    assert scan["slices"] == ([0, 1, 7] if "S" in orientation else [6, -1, 7])
    assert scan["infectedMl"] == [[0, 0, 0, 0, 0, 0.02, 0], [0, 0, 0, 0.03, 0, 0, 0]]
    assert len(scan["zMm"]) == 7
    assert scan["start"] == scan["regions"][0]


def test_without_infection_the_page_starts_in_the_middle_of_the_lungs_and_says_what_that_means(findings_of, page_of):
    page = page_of["no infection"]
    assert "No infection found, which does not exclude one." in page
    z = int(scan_of(page)["start"][2] * findings_of["full"].lungs.shape[2])
    lung = np.count_nonzero(findings_of["full"].lungs, axis=(0, 1))
    assert lung[z] == lung.max()
    assert "Infection and lesion classes were not segmented." in page_of["lungs only"]
    assert scan_of(page_of["lungs only"])["infectedMl"] is None


@pytest.mark.parametrize("state", ["full", "wordy"])
def test_the_page_names_the_case_and_nothing_else(state, findings_of, page_of):
    findings, text = findings_of[state], without_blocks(page_of[state])
    assert findings.case_id[:60] in text
    for word in ("DOE", "JANE", "1949-02", "/scans", ".dcm", "THORAX", findings.series.study_uid, "PIDPID"):
        assert word not in text
    other = replace(findings, case_id="012", patient_id="PID-4711", scan_sha256="a3" * 32)
    text = without_blocks(render_viewer(other))
    for word in (UID, "PID-4711", "a3a3"):
        assert word not in text
    for name in re.findall(r'id="volume-([a-z_]+)"', page_of[state]):
        content = gzip.decompress(base64.b64decode(block(page_of[state], f"volume-{name}")))
        header = nib.Nifti1Header(content[:348])
        assert not any(header[field].item().strip(b"\0") for field in ("descrip", "intent_name", "db_name", "aux_file"))


def test_a_file_is_complete_or_not_there(findings_of, tmp_path, monkeypatch):
    path = write_viewer(findings_of["full"], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["viewer.html"]
    before = path.read_bytes()
    monkeypatch.setattr("custom_components.reports.scan.viewer.render_viewer", lambda _: 3)
    with pytest.raises(TypeError):
        write_viewer(findings_of["full"], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["viewer.html"]
    assert path.read_bytes() == before


def test_inconsistent_findings_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="Case 012: attention SS has values"):
        write_viewer(by_hand(attention_ss=np.full((5, 6, 7), 1.5, np.float32)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_links_to_the_viewer_if_there_is_one(findings_of, tmp_path):
    for has_viewer in (True, False):
        page = write_report(findings_of["full"], tmp_path, has_viewer)[1].read_text(encoding="utf-8")
        assert [attributes["href"] for attributes in Tags(page).of("a")] == ["viewer.html"] * has_viewer
        assert "@media print { .viewer { display: none; } }" in page


def test_a_file_name_with_invalid_unicode_is_accepted(tmp_path):
    assert "scan_?" in write_viewer(by_hand(case_id="scan_\udcff"), tmp_path).read_text(encoding="utf-8")


def test_a_full_size_scan_stays_below_25_mb():
    """Noise in all voxels takes longest to compress; here a slice in ten, and the rest follows."""
    noise = np.random.default_rng(0).normal(-400, 60, (512, 512, 30)).astype(np.float32)
    nothing = np.zeros(noise.shape, np.uint8)
    findings = by_hand(
        image_hu=noise,
        lungs=nothing,
        infection=nothing,
        lesions=nothing,
        lesion_slices=(),
        affine=np.diag([-0.7, -0.7, 1, 1]),
    )
    page = render_viewer(findings)
    assert len(page) - len(niivue_script()) < 2.2e6
    assert len(niivue_script()) < 2.4e6


# In a browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The viewer of a phantom, on disk."""
    findings = phantom_findings((72, 60, 26), (5.4, 5.4, 11.0))
    infection = findings.infection.copy()
    right = np.argwhere(findings.lungs == 2)
    x, y, z = right[len(right) // 2]
    infection[x, y, z] = 1
    return write_viewer(replace(findings, infection=infection), tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(request, opened, tmp_path_factory):
    """The viewer of a phantom, opened from disk."""
    profile = tmp_path_factory.mktemp(request.param) / "profile"
    if request.param == "chromium":
        page = Browser(request.getfixturevalue("chromium"), profile)
    else:
        page = Firefox(request.getfixturevalue("firefox"), profile, display=request.getfixturevalue("display"))
    with page:
        page.open(opened, READY)
        yield page


def canvas(browser: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(browser.picture("#screen"))).convert("RGB")).astype(int)


def coloured(picture: np.ndarray) -> int:
    """Pixels of the lesion classes: greener than red and blue."""
    return int(np.count_nonzero(picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2]) > 15))


def slice_number(browser: Page) -> int:
    return int(re.match(r"Slice (\d+),", browser.text("#where"))[1])


@pytest.fixture
def at_start(browser):
    """The first view, whatever the tests before did."""
    browser.click('[data-view="axial"]')
    browser.click('[data-window="-1350 150"]')
    browser.click('[data-tool="crosshair"]')
    browser.value("document.querySelectorAll('[data-layer]').forEach(b => b.checked !== b.defaultChecked && b.click())")
    browser.click('[data-region="0"]')
    return browser


def test_the_browser_shows_the_scan_without_network_or_refused_scripts(at_start):
    picture = canvas(at_start)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert coloured(picture) > 50
    assert at_start.complaints == []
    assert {url.split(":")[0] for url in at_start.requests} <= {"file", "data", "blob"}
    assert sum(url.startswith("file") for url in at_start.requests) == 1


def test_a_layer_is_switched_by_its_box_its_key_and_its_opacity(at_start):
    assert coloured(canvas(at_start)) > 50
    at_start.click("#show-lesions")
    assert coloured(canvas(at_start)) == 0
    at_start.key("3")
    assert coloured(canvas(at_start)) > 50
    slider = "document.querySelector('[data-opacity=lesions]')"
    at_start.value(f"{slider}.value = 0, {slider}.dispatchEvent(new Event('input'))")
    assert coloured(canvas(at_start)) == 0
    at_start.value(f"{slider}.value = 45, {slider}.dispatchEvent(new Event('input'))")


def test_a_click_on_a_lesion_or_the_profile_shows_its_slice(at_start):
    last = at_start.value("document.querySelectorAll('[data-region]').length") - 1
    ends = at_start.value(f"[...document.querySelectorAll('#regions tbody tr')][{last}].cells[3].textContent")
    at_start.click(f'[data-region="{last}"]')
    assert slice_number(at_start) == int(ends)  # a region of one slice
    assert at_start.value("document.querySelectorAll('tr[aria-current=true]').length") == 1
    for share, number in ((0.01, 0), (0.5, 13), (0.99, 25)):
        at_start.click("#profile", share)
        assert slice_number(at_start) == number


def test_keys_and_the_slider_change_the_slice_and_stop_at_its_ends(at_start):
    at_start.click("#profile", 0.5)
    for key, number in (("ArrowUp", 14), ("ArrowDown", 13), ("PageDown", 3), ("PageDown", 0), ("PageUp", 10)):
        at_start.key(key)
        assert slice_number(at_start) == number
    for key in ("ArrowRight", "ArrowLeft"):
        at_start.key(key)
    at_start.value("document.getElementById('slice').value = 20")
    at_start.value("document.getElementById('slice').dispatchEvent(new Event('input'))")
    assert slice_number(at_start) == 20


def test_the_right_lung_is_on_the_left_of_the_picture(at_start):
    """The lesion of the right lung, which the crosshair marks."""
    rows = at_start.value("[...document.querySelectorAll('#regions tbody tr')].map(row => row.cells[1].textContent)")
    assert set(rows) == {"left", "right"}
    for side in ("left", "right"):
        at_start.click(f'[data-region="{rows.index(side)}"]')
        picture = canvas(at_start)
        # the crosshair is light blue: the column with most of it is its vertical line
        blue = (picture[..., 2] - picture[..., 0] > 60).sum(axis=0)
        assert (int(blue.argmax()) < picture.shape[1] / 2) == (side == "right")


def test_windows_and_views_change_the_picture(at_start):
    seen = [canvas(at_start)]
    for button in (
        '[data-window="-160 240"]',
        '[data-view="coronal"]',
        '[data-view="sagittal"]',
        '[data-view="planes"]',
    ):
        at_start.click(button)
        seen.append(canvas(at_start))
    at_start.click('[data-view="render"]')
    seen.append(canvas(at_start))
    assert coloured(seen[-1]) > 50
    for one, other in pairwise(seen):
        assert np.abs(one - other).max() > 50
    assert at_start.complaints == []


def test_a_drag_measures_a_distance(at_start):
    at_start.click('[data-tool="measurement"]')
    before = canvas(at_start)
    at_start.drag(at_start.middle("#screen", 0.45, 0.3), at_start.middle("#screen", 0.55, 0.3))
    changed = np.abs(canvas(at_start) - before).max(axis=2) > 50
    rows = np.flatnonzero(changed.any(axis=1))
    assert changed.any()
    assert abs(rows.mean() - 0.3 * changed.shape[0]) < 0.1 * changed.shape[0]
    at_start.click("#reset")
    assert np.abs(canvas(at_start) - before).max(axis=2).sum() < changed.sum()


def test_a_touch_moves_the_place(at_start):
    before = at_start.text("#where")
    x, y = at_start.middle("#screen", 0.5, 0.4)
    at_start.touch((x, y), (x + 9, y + 30))
    at_start.wait(f"document.getElementById('where').textContent !== {json.dumps(before)}", 5)


@pytest.mark.parametrize(("size", "is_wide"), [((1280, 800), True), ((1000, 1300), False)])
def test_the_planes_use_the_shape_of_the_screen(opened, chromium, tmp_path, size, is_wide):
    with Browser(chromium, tmp_path / "profile", size) as browser:
        browser.open(opened, READY)
        bright = canvas(browser).max(axis=2) > 60
    height, width = bright.shape
    assert (width > height) == is_wide
    # the axial plane fills the left or the upper part, where nothing but its own border is dark
    part = bright[:, : int(0.6 * width)] if is_wide else bright[: int(0.6 * height)]
    assert part.any(axis=0).mean() > 0.7
    assert part.any(axis=1).mean() > 0.7
    assert bright.any(axis=1).mean() > 0.85


def test_without_webgl_the_first_slice_stays_visible_and_the_page_says_why(opened, chromium, tmp_path):
    with Browser(chromium, tmp_path / "profile", (1280, 800), "--disable-3d-apis") as browser:
        browser.open(opened, 'document.querySelector("#wait")?.textContent.includes("WebGL 2")')
        assert "Only this slice can be shown" in browser.text("#wait")
        assert browser.value('document.querySelector("#wait img").clientHeight > 100')
