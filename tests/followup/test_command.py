import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from custom_components.diagnosis.lung_sources import find_lungs
from custom_components.diagnosis.scan_files import volume_path, write_volume
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.followup import command, comparison
from custom_components.followup.pairs import check_pair, pair_warnings
from custom_components.images.writers import save_volume

from tests.diagnosis.conftest import PATIENT_ID, PATIENT_NAME, thin_phantom, write_series
from tests.followup.pairs_of_scans import planted_pair, planted_registration, report_of
from tests.real_data import real_data

IDENTITY = (PATIENT_ID, *PATIENT_NAME.split("^"))


@pytest.fixture
def run(command_line):
    return partial(command_line, "compare")


@pytest.fixture
def files(tmp_path):
    """Both scans of the planted pair as NIfTI."""
    folder = tmp_path / "scans"
    folder.mkdir()
    paths = [folder / f"{name}.nii.gz" for name in ("earlier", "later")]
    for path, scan in zip(paths, planted_pair(), strict=True):
        save_volume(scan.hu.astype(np.int16), scan.affine, path)
    return paths


@pytest.fixture
def planted(monkeypatch):
    """Diagnosis and registration of the planted pair; the list of the diagnosed cases."""
    scans, diagnosed = {scan.case_id: scan for scan in planted_pair()}, []

    def diagnose_scan(source, folder, diagnosis, dicom):
        scan = scans[source.case_id]
        for name in ("lungs", "infection"):
            write_volume(volume_path(folder, scan.case_id, name), name, getattr(scan, name), scan.affine)
        report = {**scan.report, "scan_sha256": source.sha256}
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        diagnosed.append(source.case_id)

    monkeypatch.setattr(command, "diagnose_scan", diagnose_scan)
    monkeypatch.setattr(command, "Diagnosis", lambda **_: None)
    monkeypatch.setattr(comparison, "register_lungs", lambda later, earlier: planted_registration())
    return diagnosed


def series(folder, study="1.2.3", **tags):
    write_series(thin_phantom(seed=int(study[-1])), folder, study, **tags)
    return ScanSource(folder)


def test_two_scans_are_diagnosed_once_and_compared(run, files, planted, tmp_path, caplog):
    out = tmp_path / "out"
    assert run(*files, "--output_dir", out) == 0
    found = json.loads((out / "compare_earlier_later" / "comparison.json").read_text(encoding="utf-8"))
    assert [found[name]["case_id"] for name in ("earlier", "later")] == ["earlier", "later"]
    assert caplog.messages[-2] == found["sentence"]
    assert run(*files, "--output_dir", out) == 0
    assert "The comparison is finished already" in caplog.messages[-1]
    assert planted == ["earlier", "later"]
    assert sorted(path.name for path in out.iterdir()) == ["compare_earlier_later", "earlier", "later"]


def test_a_scan_without_infection_mask_is_refused(run, files, planted, tmp_path, caplog):
    assert run(*files, "--output_dir", tmp_path / "out") == 0
    report = tmp_path / "out" / "later" / "report.json"
    content = json.loads(report.read_text(encoding="utf-8"))
    report.write_text(json.dumps({**content, "infection": None}), encoding="utf-8")
    for path in (tmp_path / "out" / "compare_earlier_later").iterdir():
        path.unlink()
    assert run(*files, "--output_dir", tmp_path / "out") == 1
    assert caplog.messages[-1].startswith("Case later: infection was not segmented")


def test_the_same_scan_is_refused_before_anything_is_written(run, files, planted, tmp_path, caplog):
    copy = files[0].with_name("copy.nii.gz")
    copy.write_bytes(files[0].read_bytes())
    assert run(files[0], copy, "--output_dir", tmp_path / "out") == 1
    assert caplog.messages[-1] == ("Cases earlier and copy are the same scan. Name two different scans of one patient.")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_several_scans_is_refused(run, files, tmp_path, caplog):
    assert run(files[0].parent, files[1], "--output_dir", tmp_path / "out") == 1
    assert caplog.messages[-1] == "EARLIER contains 2 scans. Expected one: name its file or folder."


def test_series_of_different_patients_are_refused_without_their_names(tmp_path):
    earlier, later = series(tmp_path / "a"), series(tmp_path / "b", "1.2.4", PatientID="ZZ-9")
    with pytest.raises(ValueError, match=r"different PatientIDs.*--different_patient_ids") as raised:
        check_pair(earlier, later)
    assert earlier.case_id in str(raised.value)
    assert not any(part in str(raised.value) for part in (*IDENTITY, "ZZ-9"))
    check_pair(earlier, later, different_patient_ids=True)


def test_dates_in_the_wrong_order_are_a_warning_without_dates(tmp_path):
    dates = ("20200511", "20200307")
    one, other = (series(tmp_path / date, f"1.2.{number}", AcquisitionDate=date) for number, date in enumerate(dates))
    report = planted_pair()[0].report
    warnings = pair_warnings(one, other, report, report)
    assert len(warnings) == 1
    assert "exchange them if they were mixed up" in warnings[0]
    assert not any(date in warnings[0] for date in dates)
    assert pair_warnings(other, one, report, report) == []


def test_different_weights_are_a_warning(files):
    report = planted_pair()[0].report
    other = {**report, "models": [{"name": "VB-Net", "sha256": "2" * 64}], "warnings": ["It is cut."]}
    warnings = pair_warnings(*map(ScanSource, files), report, other)
    assert warnings[0].startswith("The scans were diagnosed with different weights or methods")
    assert warnings[1] == "In the later scan: It is cut."


@pytest.mark.slow
@pytest.mark.real_data
def test_a_shifted_and_noisier_copy_of_a_real_scan_with_the_same_masks_has_not_changed(tmp_path):
    image = ScanSource(real_data("covid_ct_md", "P001")).image()
    hu, affine = np.asarray(image[0]), image.affine.numpy()
    lungs = find_lungs(image).lungs
    dense = ((hu > -700) & (lungs != 0)).astype(np.uint8)
    scan = replace(planted_pair()[0], hu=hu, affine=affine, lungs=lungs, infection=dense, lesions=None, report={})
    scan = replace(scan, report=report_of(lungs, dense, scan))
    moved = affine.copy()
    moved[:3, 3] += (11.3, -7.2, 19.5)
    noisy = hu + np.random.default_rng(0).normal(0, 20, hu.shape).astype(np.float32)
    found = comparison.compare_scans(scan, replace(scan, hu=noisy, affine=moved), tmp_path / "compared")
    assert found["sentence"].startswith("No change beyond what the same scan measured twice gives")
    assert found["change"]["volume_ml"]["new"] < 1
    assert found["registration"]["lung_dice"] > 0.98
