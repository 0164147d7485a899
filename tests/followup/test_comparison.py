import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from custom_components.followup import comparison as module
from custom_components.followup.change import find_change
from custom_components.followup.comparison import HTML_NAME, JSON_NAME, MAP_NAME, compare_scans
from custom_components.followup.registration import Registration, register_lungs
from custom_components.reports.scan.page import VIEWER_NAME

from tests.browser import Browser
from tests.followup.pairs_of_scans import healthy, planted_ml, planted_pair, planted_registration, with_infection

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "comparison.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def compared(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "register_lungs", lambda later, earlier: planted_registration())
    return compare_scans(*planted_pair(), tmp_path / "compared"), tmp_path / "compared"


def test_planted_change_is_found_within_five_percent(compared):
    found = compared[0]["change"]["volume_ml"]
    assert found == {name: pytest.approx(volume, rel=0.05) for name, volume in planted_ml().items()}


def test_the_sentence_says_how_much_is_new_and_where(compared):
    sentence = compared[0]["sentence"]
    assert sentence.startswith("Infection has increased from ")
    assert "ml are new, mainly in the left lower third, and " in sentence
    assert sentence.endswith("ml have resolved, mainly in the left middle third.")


def test_volumes_are_those_of_the_reports(compared):
    earlier, later = planted_pair()
    volume = compared[0]["infection_ml"]["total"]
    reported = [scan.report["infection"]["volume_ml"]["total"] for scan in (earlier, later)]
    assert [volume["earlier"], volume["later"]] == reported
    assert volume["difference"] == pytest.approx(reported[1] - reported[0], abs=1e-3)


def test_the_files_are_those_of_the_schema_and_the_grid_is_that_of_the_later_scan(compared):
    comparison, folder = compared
    assert {path.name for path in folder.iterdir()} == {JSON_NAME, HTML_NAME, MAP_NAME, VIEWER_NAME}
    assert json.loads((folder / JSON_NAME).read_text(encoding="utf-8")) == comparison
    jsonschema.validate(comparison, SCHEMA)
    image = nib.load(folder / MAP_NAME)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.affine, planted_pair()[1].affine, atol=1e-4)


def test_a_scan_moved_on_the_table_has_not_changed():
    earlier, _ = planted_pair()
    affine = earlier.affine.copy()
    affine[:3, 3] += (31.0, -17.0, 23.0)
    later = replace(earlier, affine=affine)
    found = register_lungs(later, earlier)
    moved = found.labels_on_later(earlier.infection, earlier, later)
    change = find_change(later.infected, moved, affine)
    assert (change.new_ml, change.resolved_ml) == (0, 0)
    assert found.dice > 0.99
    assert found.moved_mm == pytest.approx(np.linalg.norm((31, 17, 23)), abs=1)


@pytest.mark.slow
def test_exchanged_scans_exchange_new_and_resolved():
    earlier, later = planted_pair()
    back = register_lungs(earlier, later)
    infected = back.labels_on_later(later.infection, later, earlier)
    change = find_change(earlier.infected, infected, earlier.affine)
    planted = planted_ml()  # on the other grid, where lungs are breathed in more
    assert change.new_ml == pytest.approx(planted["resolved"], rel=0.15)
    assert change.resolved_ml == pytest.approx(planted["new"], rel=0.15)


def test_an_implausible_registration_gives_numbers_without_a_map(tmp_path, monkeypatch):
    poor = Registration(planted_registration().transform, 0.5, 40.0)
    monkeypatch.setattr(module, "register_lungs", lambda later, earlier: poor)
    comparison = compare_scans(*planted_pair(), tmp_path / "compared")
    jsonschema.validate(comparison, SCHEMA)
    assert comparison["change"] is None
    assert "the lungs could not be registered" in comparison["sentence"]
    assert {path.name for path in (tmp_path / "compared").iterdir()} == {JSON_NAME, HTML_NAME}


def test_names_and_warnings_are_escaped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "register_lungs", lambda later, earlier: planted_registration())
    bad = "<script>alert('x')</script>"
    earlier, later = (replace(scan, case_id=bad) for scan in planted_pair())
    compare_scans(earlier, later, tmp_path / "compared", [bad])
    page = (tmp_path / "compared" / HTML_NAME).read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    assert "default-src 'none'" in page


def test_masks_of_another_size_are_refused():
    with pytest.raises(ValueError, match="Case earlier: infection has shape"):
        replace(healthy(), infection=np.zeros((2, 3, 4), np.uint8))


def test_the_lesion_classes_are_compared_by_lung(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "register_lungs", lambda later, earlier: planted_registration())
    scans = []
    for scan in planted_pair():
        lesions = np.where(scan.infection != 0, np.uint8(2), np.uint8(0))
        volumes = {"ground_glass": 0.0, "consolidation": 99.0, "pleural_effusion": 0.0}
        scans.append(replace(scan, lesions=lesions, report={**scan.report, "lesions": {"volume_ml": volumes}}))
    comparison = compare_scans(*scans, tmp_path / "compared")
    jsonschema.validate(comparison, SCHEMA)
    found = comparison["lesions_ml"]["consolidation"]
    assert found["total"]["difference"] == 0
    for side in ("left", "right"):
        expected = [scan.report["infection"]["volume_ml"][side] for scan in scans]
        assert [found[side]["earlier"], found[side]["later"]] == pytest.approx(expected, abs=1e-2)
    assert comparison["lesions_ml"]["pleural_effusion"]["left"]["earlier"] is None


def test_no_infection_in_either_scan_is_no_change(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "register_lungs", lambda later, earlier: planted_registration())
    scans = [with_infection(scan, np.zeros_like(scan.infection)) for scan in planted_pair()]
    comparison = compare_scans(*scans, tmp_path / "compared")
    assert comparison["sentence"].startswith("No change beyond what the same scan measured twice gives (1.0 ml)")


def test_axe_finds_nothing_on_the_page(compared, chromium, tmp_path):
    with Browser(chromium, tmp_path / "profile") as browser:
        browser.open(compared[1] / HTML_NAME, "document.readyState === 'complete'")
        assert browser.faults() == []
