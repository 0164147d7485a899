import csv
import json
import re
from functools import partial
from pathlib import Path

import nibabel as nib
import pytest
from custom_components.diagnosis.command import NO_NETWORK, diagnose
from custom_components.diagnosis.pipeline import NO_CLASSIFIER, NO_LESIONS
from pydicom import dcmread

from tests.diagnosis.conftest import PATIENT_ID, PATIENT_NAME, thin_phantom, write_nifti, write_series

IDENTITY = (PATIENT_ID, *PATIENT_NAME.split("^"))


@pytest.fixture
def run(command_line):
    return partial(command_line, "diagnose")


def case_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def cases_of(out: Path) -> list[str]:
    """Cases of the overview, in its order."""
    with (out / "overview.csv").open(newline="", encoding="utf-8") as file:
        return [row["case_id"] for row in csv.DictReader(file)]


def texts(folder: Path) -> dict[str, bytes]:
    """Content of all files except DICOM, decompressed."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    return {path.name: nib.load(path).to_bytes() if path.name.endswith(".gz") else path.read_bytes() for path in files}


def test_a_study_gets_all_files_of_a_case(run, study, planted, scan, tmp_path):
    pytest.importorskip("highdicom")
    assert run(study, "--output_dir", tmp_path / "out", "--bundles_dir", planted(scan)) == 0
    folder = case_folder(tmp_path / "out")
    ends = ("lungs", "infection", "lesions", "attention_us", "attention_ss")
    expected = {
        "report.json",
        "report.html",
        "viewer.html",
        "thumbnail.png",
        *(f"{folder.name}_{end}.nii.gz" for end in ends),
    }
    assert {path.name for path in folder.iterdir() if path.is_file()} == expected
    objects = {path.name for path in (folder / "dicom").iterdir()}
    assert {"segmentation.dcm", "measurements.dcm"} <= objects
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["case_id"] == folder.name == report["series"]["uid"]
    assert report["scores"]["p_final"] is not None
    assert report["not_done"] == []


def test_only_dicom_files_contain_the_name_of_the_patient(run, study, planted, scan, tmp_path, caplog, capfd):
    pytest.importorskip("highdicom")
    run(study, "--output_dir", tmp_path / "out", "--bundles_dir", planted(scan), "--profile")
    folder = case_folder(tmp_path / "out")
    assert "QUIRREL" in str(study)
    files = texts(folder)
    assert len(files) == 9
    output = capfd.readouterr()
    shown = {**files, "log": caplog.text.encode(), "output": (output.out + output.err).encode()}
    for name, content in shown.items():
        for part in IDENTITY:
            assert part.lower().encode() not in content.lower(), name
    assert all(
        part.lower() not in str(path.relative_to(tmp_path)).lower() for part in IDENTITY for path in folder.rglob("*")
    )
    assert dcmread(folder / "dicom" / "segmentation.dcm").PatientID == PATIENT_ID


def test_the_patient_id_is_in_the_reports_if_requested(run, study, bare_bundles, tmp_path):
    run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False", "--include_patient_id")
    files = texts(case_folder(tmp_path))
    assert all(PATIENT_ID.encode() in files[name] for name in ("report.json", "report.html"))
    assert PATIENT_ID.encode() not in files["viewer.html"]
    assert all(part.encode() not in content for part in IDENTITY[1:] for content in files.values())


def test_without_weights_the_report_has_a_reason_and_no_probability(run, study, bare_bundles, tmp_path, caplog):
    assert run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False") == NO_NETWORK
    assert f"Searched for models/vbnet.pt of covid_cap_bundle ({bare_bundles}/covid_cap_bundle)" in caplog.messages[-1]
    assert caplog.text.count("No network has weights") == 1
    folder = case_folder(tmp_path)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["scores"] is None
    assert report["lungs"]["source"] == "threshold and morphology (no model)"
    assert report["not_done"][1:] == [NO_CLASSIFIER, NO_LESIONS]
    files = {"report.json", "report.html", "viewer.html", "thumbnail.png", f"{folder.name}_lungs.nii.gz"}
    assert {path.name for path in folder.iterdir()} == files


def test_log_and_report_warn_about_a_nifti_without_orientation_codes(run, scan, bare_bundles, tmp_path, caplog):
    image = nib.load(write_nifti(scan, tmp_path / "a.nii"))
    image.header["qform_code"], image.header["sform_code"] = 0, 0
    image.header["vox_offset"] = 352
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock + (tmp_path / "a.nii").read_bytes()[348:])
    assert run(tmp_path / "a.nii", "--output_dir", tmp_path / "out", "--bundles_dir", bare_bundles) == NO_NETWORK
    report = json.loads((tmp_path / "out" / "a" / "report.json").read_text(encoding="utf-8"))
    assert "left and right, front and back, head and feet are a guess" in report["warnings"][0]
    assert caplog.text.count("Case a is read with warnings: its header does not give the orientation") == 1
    assert "are a guess" in (tmp_path / "out" / "a" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", ["--no-lesion_classes", "--no_lesion_classes", "--no-lesion-classes"])
def test_lesion_classes_can_be_left_out_with_any_spelling_of_the_option(run, study, bundles, tmp_path, option):
    assert run(study, option, "--output_dir", tmp_path, "--bundles_dir", bundles, "--dicom", "False") == 0
    report = json.loads((case_folder(tmp_path) / "report.json").read_text(encoding="utf-8"))
    assert report["lesions"] is None
    assert "--no-lesion_classes" in " ".join(report["not_done"])


def test_the_profile_shows_each_stage(run, study, bundles, tmp_path, caplog):
    run(study, "--output_dir", tmp_path, "--bundles_dir", bundles, "--profile", "--dicom", "False")
    rows = caplog.text[caplog.text.index("stage") :].splitlines()
    for stage in ("lungs and infection", "write NIfTI", "write report", "total"):
        assert any(row.startswith(stage) for row in rows), stage


def test_the_progress_tells_stages_and_cases_as_they_come(run, scan, bundles, tmp_path, capsys):
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_nifti(scan, scans / "good.nii.gz")
    (scans / "bad.nii.gz").write_bytes(b"no NIfTI")
    uid = write_series(thin_phantom(), scans / "QUIRREL_ADALBERTA")
    arguments = (scans, "--output_dir", out, "--bundles_dir", bundles, "--viewer", "False", "--dicom", "False")
    assert run(*arguments, "--progress") == 1
    text = capsys.readouterr().out
    assert not [word for word in IDENTITY if word.upper() in text.upper()]
    events = [json.loads(line) for line in text.splitlines()]
    assert events[0] == {"scans": 3}
    assert [event for event in events if "case" in event] == [
        {"case": "bad", "number": 1},
        {"case": "good", "number": 2},
        {"case": uid, "number": 3},
    ]
    good = events[events.index({"case": "good", "number": 2}) : events.index({"stage": "find the series"})]
    stages = [event["stage"] for event in good[1:]]
    names = ("read", "lungs and infection", "lesion classes", "both branches, attention", "write report")
    assert [stage for stage in stages if stage in names] == list(names)
    assert events[-1]["finished"] == ["good", uid]
    assert list(events[-1]["failed"]) == ["bad"]
    run(*arguments, "--progress")
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["case"] for event in again if "case" in event] == ["bad"]
    assert again[-1]["finished"] == ["good", uid]
    run(*arguments)
    assert capsys.readouterr().out == ""


def test_a_queue_continues_after_a_broken_scan_and_ends_with_status_1(run, scan, bare_bundles, tmp_path, caplog):
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_nifti(scan, scans / "good.nii.gz")
    (scans / "bad.nii.gz").write_bytes(b"no NIfTI")
    uid = write_series(thin_phantom(), scans / "QUIRREL_ADALBERTA")
    arguments = (scans, "--output_dir", out, "--bundles_dir", bare_bundles, "--dicom", "False")
    assert run(*arguments) == 1
    assert "1 of 3 scans failed:\n  bad: bad.nii.gz is truncated or not a NIfTI file" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == [uid, "good", "overview.csv", "overview.html"]
    assert all((out / case / "report.json").is_file() for case in (uid, "good"))
    assert cases_of(out) == ["bad", uid, "good"]
    page = (out / "overview.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert "QUIRREL" not in page
    assert re.search(r"Case good: lungs [\d .]+ ml$", caplog.text, re.M)
    caplog.clear()
    (scans / "bad.nii.gz").unlink()
    assert run(*arguments) == NO_NETWORK
    assert "2 of 2 scans finished, 2 of them in an earlier run" in caplog.text
    assert cases_of(out) == [uid, "good"]
    assert "skipped, finished in an earlier run. Remove its folder to repeat it" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "fp16"), "precision is 'fp16'. Expected one of: auto, fp32, bf16. Did you mean bf16?"),
        (("--infection_by", "vbnets"), "infection_by is 'vbnets'. Expected 'either' or 'vbnet'. Did you mean vbnet?"),
        (("--cap_weights", "nowhere.pt"), "No weights at nowhere.pt. Correct the path, or leave out --cap_weights."),
        (("--lungmask_weights", "no.pth"), "No weights at no.pth. Correct the path, or leave out --lungmask_weights."),
    ],
)
def test_options_are_checked_before_the_scan_is_searched(tmp_path, options, message):
    given = {options[0].removeprefix("--"): options[1]}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        diagnose(str(tmp_path / "no scan"), str(tmp_path / "out"), **given)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_its_status_and_a_hint_how_to_continue(run, scan, bare_bundles, tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("custom_components.diagnosis.command.diagnose_scan", interrupted)
    image = write_nifti(scan, tmp_path / "a.nii.gz")
    assert run(image, "--output_dir", tmp_path / "out", "--bundles_dir", bare_bundles) == 130
    assert "run the same command again to continue" in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_look_like_numbers_are_not_converted(run, scan, bare_bundles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nifti(scan, tmp_path / "1.10" / "007.nii.gz")
    assert run("1.10", "--output_dir", "2.10", "--bundles_dir", bare_bundles) == NO_NETWORK
    assert (tmp_path / "2.10" / "007" / "report.json").is_file()


def test_a_flag_with_a_text_value_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"include_patient_id is 'false'. Expected True or False"):
        diagnose("a", str(tmp_path), include_patient_id="false")  # type: ignore[arg-type]


def test_an_output_folder_inside_the_scans_is_an_error(study, bare_bundles):
    with pytest.raises(ValueError, match="output_dir is inside the folder of the scans"):
        diagnose(str(study), str(study / "out"), bundles_dir=str(bare_bundles))
    assert [path.name for path in study.iterdir()] == ["axial"]


def test_the_input_is_not_changed(run, study, bare_bundles, tmp_path):
    before = {path: path.read_bytes() for path in study.rglob("*.dcm")}
    run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False")
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before
