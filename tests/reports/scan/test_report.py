import base64
import io
import json
import re
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from custom_components.reports.scan.description import describe_scan
from custom_components.reports.scan.findings import Model, ScanFindings, Scores
from custom_components.reports.scan.report import write_report
from custom_components.reports.scan.sentences import estimate_text, findings_line
from jsonschema import Draft202012Validator, ValidationError
from monai.data import MetaTensor
from monai.transforms import Orientation
from PIL import Image

from tests.firefox import Firefox
from tests.html_tags import Tags

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "docs/report.schema.json").read_text(encoding="utf-8"))
STATES = (
    *("full", "no classifier", "no ratio", "lungs only", "no infection", "one lung", "no lungs", "odd grid", "wordy"),
)

# 0.5 x 2 x 10 mm, 0.01 ml a voxel; x to Left, y to Posterior, z to Superior.
AFFINE = np.diag([-0.5, -2.0, 10.0, 1.0])


def by_hand(**more):
    """Right lung of 2 x 6 x 4 voxels, left lung of 1 x 6 x 4; 3 infected voxels on the right, 2 on the left.

    Of those, 1 is ground-glass and 4 are consolidation; outside the lungs are 1 more of that and 6 of effusion.
    """
    lungs = np.zeros((5, 6, 7), dtype=np.uint8)
    lungs[:2, :, 2:6], lungs[4, :, 2:6] = 2, 1
    infection = np.zeros_like(lungs)
    infection[0, :3, 3] = infection[4, :2, 5] = 1
    lesions = 2 * infection
    lesions[0, 0, 3], lesions[2, :, 3], lesions[2, 0, 5] = 1, 3, 2
    hu = np.zeros(lungs.shape, np.float32)
    findings = ScanFindings("012", hu, AFFINE, lungs, "drawn by hand", infection, "drawn too")
    return replace(findings, **{"lesions": lesions, "lesion_slices": (3, 5), **more})


def stored_as(findings, orientation):
    """The same patient, as a file of another orientation holds the arrays."""
    turn = Orientation(axcodes=orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))
    names = ("image_hu", "lungs", "infection", "lesions")
    turned = {name: turn(MetaTensor(getattr(findings, name)[None], affine=findings.affine)) for name in names}
    arrays = {name: array[0].numpy() for name, array in turned.items()}
    return replace(findings, affine=turned["lungs"].affine.numpy(), **arrays)


def page_of(findings, folder):
    return write_report(findings, folder)[1].read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def written(findings_of, tmp_path_factory):
    """Report, page and its tags in each state."""
    written = {}
    for name, findings in findings_of.items():
        json_path, html_path = write_report(findings, tmp_path_factory.mktemp("report"))
        page = html_path.read_text(encoding="utf-8")
        written[name] = json.loads(json_path.read_text(encoding="utf-8")), page, Tags(page)
    return written


def test_volumes_worked_out_by_hand():
    report = describe_scan(by_hand())
    assert report["lungs"] == {"source": "drawn by hand", "volume_ml": {"left": 0.24, "right": 0.48, "total": 0.72}}
    assert report["infection"] == {
        "source": "drawn too",
        "volume_ml": {"left": 0.02, "right": 0.03, "total": 0.05},
        "percent_of_lung": {"left": 8.3333, "right": 6.25, "total": 6.9444},
        "ratio": 0.069444,
        "ratio_band": "> 0.030",
        "slices": [3, 5],
        "outside_lungs_ml": 0.0,
    }
    assert report["lesions"] == {
        "volume_ml": {"ground_glass": 0.01, "consolidation": 0.05, "pleural_effusion": 0.06},
        "percent_of_lung": {"ground_glass": 1.3889, "consolidation": 5.5556},
        "outside_lungs_ml": 0.01,
        "slices_searched": [3, 5],
        "slices": [3, 5],
    }
    assert report["geometry"] == {
        "shape": [5, 6, 7],
        "spacing_mm": [0.5, 2.0, 10.0],
        "axes": "LPS",
        "slice_axis": 2,
        "slices": 7,
    }


@pytest.mark.parametrize("orientation", ["RAS", "LAI", "PSL", "IRA"])
def test_numbers_do_not_depend_on_the_storage_order_and_slices_are_those_of_the_file(orientation):
    there, turned = describe_scan(by_hand()), describe_scan(stored_as(by_hand(), orientation))
    for part, entries in (("lungs", ("volume_ml",)), ("infection", ("volume_ml", "percent_of_lung", "ratio"))):
        assert {entry: turned[part][entry] for entry in entries} == {entry: there[part][entry] for entry in entries}
    assert turned["lesions"]["volume_ml"] == there["lesions"]["volume_ml"]
    assert turned["geometry"]["axes"] == orientation
    assert turned["geometry"]["slice_axis"] == next(axis for axis, code in enumerate(orientation) if code in "IS")
    assert turned["infection"]["slices"] == ([3, 5] if "S" in orientation else [1, 3])


def test_unknown_values_are_null():
    report = describe_scan(by_hand(infection=None, infection_source=None, lesions=None, lesion_slices=()))
    assert (report["infection"], report["lesions"], report["scores"], report["series"]) == (None, None, None, None)
    assert "unknown" in report["summary"]


def test_a_missing_lung_has_no_percentage():
    right = by_hand().lungs * np.uint8(by_hand().lungs == 2)
    report = describe_scan(by_hand(lungs=right, infection=by_hand().infection * (right > 0)))
    assert report["infection"]["percent_of_lung"] == {"left": None, "right": 6.25, "total": 6.25}
    assert report["notes"][0] == "No left lung was segmented."


def test_without_any_lung_there_is_no_ratio():
    report = describe_scan(by_hand(lungs=np.zeros_like(by_hand().lungs)))
    assert (report["infection"]["ratio"], report["infection"]["ratio_band"]) == (None, None)
    assert report["infection"]["outside_lungs_ml"] == 0.05
    assert report["summary"].startswith("No lungs were segmented")


def test_lesions_in_the_lungs_and_in_the_margin_add_up_to_their_volumes(tmp_path):
    report = describe_scan(by_hand())
    lesions, lung_ml = report["lesions"], report["lungs"]["volume_ml"]["total"]
    inside = sum(lesions["percent_of_lung"].values()) / 100 * lung_ml
    both = lesions["volume_ml"]["ground_glass"] + lesions["volume_ml"]["consolidation"]
    assert both == pytest.approx(inside + lesions["outside_lungs_ml"], abs=1e-5)
    page = page_of(by_hand(), tmp_path)
    assert "0.01 ml of ground-glass and consolidation lie in the margin outside the lungs" in page


def test_the_known_numbers_of_a_report_are_one_line():
    volumes = "ground-glass opacity 0.01 ml, consolidation 0.05 ml, pleural effusion 0.06 ml"
    assert findings_line(describe_scan(by_hand())) == f"lungs 0.72 ml, infection 0.05 ml (6.9 %), {volumes}"
    unknown = describe_scan(by_hand(infection=None, infection_source=None, lesions=None, lesion_slices=()))
    assert findings_line(unknown) == "lungs 0.72 ml"
    assert findings_line({**unknown, "scores": {"p_final": 0.8124}}) == "lungs 0.72 ml, P_final 0.812"


def test_infection_outside_the_lungs_is_reported_and_not_counted():
    infection = by_hand().infection.copy()
    infection[2, :4, 0] = 1
    report = describe_scan(by_hand(infection=infection))
    assert report["infection"]["volume_ml"]["total"] == 0.05
    assert report["infection"]["outside_lungs_ml"] == 0.04
    assert report["infection"]["slices"] == [3, 5]
    assert "0.04 ml of the infection mask are outside the lungs and not counted." in report["notes"]


def test_no_infection_is_a_number_and_not_unknown():
    infection = describe_scan(by_hand(infection=np.zeros((5, 6, 7), np.uint8)))["infection"]
    assert infection["volume_ml"] == infection["percent_of_lung"] == {"left": 0.0, "right": 0.0, "total": 0.0}
    assert (infection["ratio"], infection["ratio_band"], infection["slices"]) == (0.0, "< 0.005", [])


@pytest.mark.parametrize(("p", "is_above"), [(0.4999, False), (0.5, True)])
def test_a_score_is_reported_with_its_threshold(p, is_above):
    report = describe_scan(by_hand(scores=Scores(p, p, p, 0.96)))
    assert report["scores"]["above_threshold"] is is_above
    assert ("at or above" in report["summary"]) == is_above
    assert "0.96 P_US + 0.04 P_SS" in report["scores"]["meaning"]["p_final"]


def test_without_ratio_the_branches_are_reported_and_not_combined():
    scores = describe_scan(by_hand(scores=Scores(0.75, 0.25, None, None)))["scores"]
    assert [scores[name] for name in ("p_us", "p_ss", "p_final", "weight_us")] == [0.75, 0.25, None, None]
    assert scores["above_threshold"] is None


@pytest.mark.parametrize(
    ("findings", "message"),
    [
        ({"scores": Scores(1.5, 0.5, 1.0, 0.5)}, "p_us is 1.5. Expected 0 to 1"),
        ({"scores": Scores(float("nan"), 0.5, 0.5, 0.5)}, "p_us is nan"),
        ({"scores": Scores(0.75, 0.25, 0.5, None)}, "p_final is 0.5, weight_us None"),
        ({"scores": Scores(0.75, 0.25, 0.7, 0.35)}, "P_final is 0.700, but Eq. 5 gives 0.425"),
        ({"lungs": by_hand().lungs + np.uint8(1)}, "lung mask has value 3"),
        *(
            ({"attention_ss": np.full((5, 6, 7), value, np.float32)}, "attention SS has values from")
            for value in (1.2, -0.1, float("nan"))
        ),
    ],
)
def test_inconsistent_findings_are_rejected(findings, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"Case 012: {message}")):
        write_report(by_hand(**findings), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_series_is_reported_with_the_reason_and_the_skipped_ones(written):
    series = written["full"][0]["series"]
    assert (series["files"], series["reason"]) == (26, "thinnest of 2 axial series")
    assert series["left_out"][0] == {"description": "Topogram, 1 image", "reason": "localizer"}


@pytest.mark.parametrize("state", STATES)
def test_a_report_matches_the_schema(state, written):
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(written[state][0])


@pytest.mark.parametrize(
    ("part", "entry", "value"),
    [("lungs", "volume", 1), ("infection", "ratio", 1.5), ("lesions", "slices", [1.5]), ("scores", "p_us", None)],
)
def test_the_schema_rejects_an_invalid_report(part, entry, value, written):
    report = {**written["full"][0], part: {**written["full"][0][part], entry: value}}
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(report)


def test_every_entry_of_the_report_is_required_by_the_schema(written):
    for name in written["full"][0]:
        with pytest.raises(ValidationError, match="required"):
            Draft202012Validator(SCHEMA).validate({key: v for key, v in written["full"][0].items() if key != name})


@pytest.mark.parametrize("state", STATES)
def test_the_page_is_self_contained_and_accessible(state, written):
    _, page, tags = written[state]
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert not re.search(r"https?:|@import|url\(|javascript:|srcset", page)
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    pictures = [attributes["src"] for attributes in tags.of("img")]
    assert len(pictures) >= 4
    for source in pictures:
        head, data = source.split(",")
        assert head == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data, validate=True))).verify()
    assert all(len(picture["alt"]) > 10 for picture in tags.of("img"))
    assert all("aria-label" in drawing or drawing.get("aria-hidden") == "true" for drawing in tags.of("svg"))
    assert tags.of("html") == [{"lang": "en"}]
    assert all("scope" in cell for cell in tags.of("th"))
    assert " ".join(tags.text).count("Research use only. Not a medical device, not for diagnosis.") == 2


def test_the_page_has_the_numbers_of_the_report(written):
    report, page, _ = written["full"]
    for side in ("left", "right", "total"):
        assert f"<td>{estimate_text(report['infection']['volume_ml'][side])}</td>" in page
    assert re.search(r"P_US</th>\s*<td>0.812</td>", page)
    assert re.search(rf"P_final</th>\s*<td>{report['scores']['p_final']:.3f}</td>", page)
    assert report["summary"] in page
    assert "slice shown above" in page


@pytest.mark.parametrize("state", ["no classifier", "lungs only", "no lungs"])
def test_without_classifier_the_page_has_a_sentence_and_no_probability(state, written):
    report, page, _ = written[state]
    assert report["scores"] is None
    assert page.count("no classifier weights were found") == page.count("robability") == 1
    for word in ("P_US", "P_SS", "P_final", "attention US", "threshold 0"):
        assert word not in page


def test_without_ratio_the_page_says_unknown_and_draws_no_threshold(written):
    page = written["no ratio"][1]
    assert re.search(r"P_final</th>\s*<td>unknown</td>", page)
    assert "threshold 0.5" not in page
    assert "Infection ratio unknown." in page
    assert all("another disease also gets a score" in written[state][1] for state in ("full", "no ratio"))


def test_where_no_slice_was_searched_no_lesion_volume_is_shown(written):
    assert "which does not exclude one" in written["no infection"][0]["summary"]
    assert "No slice was searched." in written["no infection"][1]
    assert "ground-glass opacity</th>" not in written["no infection"][1]
    assert "ground-glass opacity</th>" in written["full"][1]


def test_skipped_steps_and_training_data_are_shown_in_full_if_they_fit(tmp_path):
    trained_on, not_done = "scan " * 30 + "end.", "sentence " * 30 + "end."
    models = tuple(Model(name, "1", f"{name}.pt", "0" * 64, trained_on) for name in "ab")
    page = page_of(by_hand(models=models, not_done=(not_done,)), tmp_path)
    assert page.count(trained_on) == 2
    assert not_done in page


def test_lists_too_long_for_the_page_are_complete_in_the_json(written):
    report, page, _ = written["wordy"]
    assert (len(report["warnings"]), len(report["not_done"])) == (5, 12)
    assert len(report["series"]["left_out"]) == 60
    assert "more, in report.json" in page


@pytest.mark.parametrize("state", ["full", "wordy"])
def test_folders_named_after_the_patient_are_in_neither_file(state, written):
    report, page, _ = written[state]
    texts = re.sub(r"base64,[^\"]+", "", page)
    for word in ("DOE", "JANE", "1949", "/scans", ".dcm"):
        assert word not in texts
        assert word not in json.dumps(report)


def test_the_patient_id_is_included_only_if_requested(tmp_path):
    for patient_id in (None, "PID-4711"):
        json_path, html_path = write_report(by_hand(patient_id=patient_id), tmp_path)
        assert json.loads(json_path.read_text())["patient_id"] == patient_id
        for path in (json_path, html_path):
            assert ("PID-4711" in path.read_text(encoding="utf-8")) == (patient_id is not None)
        assert ("patient ID" in html_path.read_text(encoding="utf-8")) == (patient_id is not None)


def test_a_file_name_with_invalid_unicode_is_accepted(tmp_path):
    json_path, html_path = write_report(by_hand(case_id="scan_\udcff"), tmp_path)
    assert json.loads(json_path.read_text())["case_id"] == "scan_\udcff"
    assert "scan_?" in html_path.read_text(encoding="utf-8")


def test_a_scan_of_one_slice_has_a_report(tmp_path):
    one = {name: getattr(by_hand(), name)[..., 3:4] for name in ("image_hu", "lungs", "infection", "lesions")}
    json_path, html_path = write_report(by_hand(**one, lesion_slices=(0,)), tmp_path)
    assert json.loads(json_path.read_text())["infection"]["slices"] == [0]
    assert "Middle of the lungs, slice 0 (z = 0 mm)" in html_path.read_text(encoding="utf-8")


def test_the_findings_are_not_changed(findings_of, tmp_path):
    findings = findings_of["full"]
    names = ("image_hu", "affine", "lungs", "infection", "lesions", "attention_us", "attention_ss")
    before = {name: getattr(findings, name).copy() for name in names}
    write_report(findings, tmp_path)
    assert all(np.array_equal(before[name], getattr(findings, name)) for name in names)


def test_the_json_is_written_last(findings_of, tmp_path, monkeypatch):
    def no_room(target, content):
        assert (tmp_path / "report.html").is_file()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("custom_components.reports.scan.report.write_json", no_room)
    with pytest.raises(OSError, match="No space"):
        write_report(findings_of["full"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("font", ["", "DejaVu Sans"])  # the latter is 14 % wider than Arial, and higher
@pytest.mark.parametrize("state", STATES)
def test_the_page_prints_on_two_sheets_of_a4_with_any_font(state, font, written, chromium, tmp_path):
    page, printed = tmp_path / "report.html", tmp_path / "report.pdf"
    usual = 'Arial, "Liberation Sans", Helvetica, sans-serif'
    assert written[state][1].count(usual) == 2
    page.write_text(written[state][1].replace(usual, f'"{font}"' if font else usual), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [chromium, *options, "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri()]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    content = printed.read_bytes()
    assert len(re.findall(rb"/Type /Page\b", content)) == 2
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    assert boxes
    assert all((round(float(w)), round(float(h))) == (595, 842) for w, h in boxes)


def test_firefox_prints_two_sheets_as_well(written, firefox, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(written["full"][1], encoding="utf-8")
    with Firefox(firefox, tmp_path / "profile") as browser:
        browser.open(page, "document.readyState === 'complete' && document.images.length > 1")
        packed = re.findall(rb"/Type /ObjStm.*?stream\n(.*?)\nendstream", browser.pdf(), flags=re.DOTALL)
        objects = b"".join(map(zlib.decompress, packed))
        assert len(re.findall(rb"/Type /Page\b", objects)) == 2
        assert browser.complaints == []
