import json
import re
from functools import partial
from pathlib import Path

import nibabel as nib
import pytest
from custom_components.diagnosis.command import NO_NETWORK, diagnose
from pydicom import dcmread

from tests.diagnosis.conftest import PATIENT_ID, PATIENT_NAME, thin_phantom, write_nifti, write_series

IDENTITY = (PATIENT_ID, *PATIENT_NAME.split("^"))


@pytest.fixture
def run(command_line):
    return partial(command_line, "diagnose")


@pytest.fixture
def dicom_files(tmp_path):
    def call(folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*.dcm")]

    return call


def case_folder(out: Path) -> Path:
    (folder,) = out.iterdir()
    return folder


def texts(folder: Path) -> dict[str, bytes]:
    """Whatever is no DICOM, unpacked where it is packed."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".dcm"]
    return {path.name: nib.load(path).to_bytes() if path.name.endswith(".gz") else path.read_bytes() for path in files}


def test_a_study_gives_all_files_of_a_case(run, study, planted, scan, tmp_path):
    pytest.importorskip("highdicom")
    assert run(study, "--output_dir", tmp_path / "out", "--bundles_dir", planted(scan)) == 0
    folder = case_folder(tmp_path / "out")
    ends = ("lungs", "infection", "lesions", "attention_us", "attention_ss")
    expected = {"report.json", "report.html", *(f"{folder.name}_{end}.nii.gz" for end in ends)}
    assert {path.name for path in folder.iterdir() if path.is_file()} == expected
    objects = {path.name for path in (folder / "dicom").iterdir()}
    assert {"segmentation.dcm", "measurements.dcm"} <= objects
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["case_id"] == folder.name == report["series"]["uid"]
    assert report["scores"]["p_final"] is not None
    assert report["not_done"] == []


def test_nothing_but_dicom_names_the_patient(run, study, planted, scan, tmp_path, caplog, capfd):
    pytest.importorskip("highdicom")
    run(study, "--output_dir", tmp_path / "out", "--bundles_dir", planted(scan), "--profile")
    folder = case_folder(tmp_path / "out")
    assert "QUIRREL" in str(study)
    files = texts(folder)
    assert len(files) == 7
    output = capfd.readouterr()
    told = {**files, "log": caplog.text.encode(), "output": (output.out + output.err).encode()}
    for name, content in told.items():
        for part in IDENTITY:
            assert part.lower().encode() not in content.lower(), name
    assert all(
        part.lower() not in str(path.relative_to(tmp_path)).lower() for part in IDENTITY for path in folder.rglob("*")
    )
    assert dcmread(folder / "dicom" / "segmentation.dcm").PatientID == PATIENT_ID


def test_the_patient_id_is_in_the_reports_when_asked_for(run, study, bare_bundles, tmp_path):
    run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False", "--include_patient_id")
    files = texts(case_folder(tmp_path))
    assert all(PATIENT_ID.encode() in files[name] for name in ("report.json", "report.html"))
    assert all(part.encode() not in content for part in IDENTITY[1:] for content in files.values())


def test_without_weights_the_report_has_no_probability_and_says_why(run, study, bare_bundles, tmp_path, caplog):
    assert run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False") == NO_NETWORK
    assert f"Looked for models/vbnet.pt of covid_cap_bundle ({bare_bundles}/covid_cap_bundle)" in caplog.messages[-1]
    assert caplog.text.count("No network has weights") == 1
    folder = case_folder(tmp_path)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["scores"] is None
    assert report["lungs"]["source"] == "threshold and morphology (no model)"
    why = " ".join(report["not_done"])
    assert "no probability is given" in why
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html", f"{folder.name}_lungs.nii.gz"}


def test_a_nifti_without_orientation_codes_is_warned_of_in_log_and_report(run, scan, bare_bundles, tmp_path, caplog):
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
def test_lesion_classes_are_left_out_by_any_spelling(run, study, bundles, tmp_path, option):
    assert run(study, option, "--output_dir", tmp_path, "--bundles_dir", bundles, "--dicom", "False") == 0
    report = json.loads((case_folder(tmp_path) / "report.json").read_text(encoding="utf-8"))
    assert report["lesions"] is None
    assert "--no-lesion_classes" in " ".join(report["not_done"])


def test_the_profile_shows_each_stage(run, study, bundles, tmp_path, caplog):
    run(study, "--output_dir", tmp_path, "--bundles_dir", bundles, "--profile", "--dicom", "False")
    rows = caplog.text[caplog.text.index("stage") :].splitlines()
    stages = (
        "find the series",
        "read",
        "lungs and infection",
        "paper grid",
        "both branches",
        "lesion classes",
        "write NIfTI",
        "write report",
    )
    for stage in stages:
        assert any(row.startswith(stage) for row in rows), stage
    assert any(row.startswith("total") for row in rows)


def test_a_queue_goes_on_over_a_bad_study_and_ends_with_status_1(run, scan, bare_bundles, tmp_path, caplog):
    scans, out = tmp_path / "scans", tmp_path / "out"
    write_nifti(scan, scans / "good.nii.gz")
    (scans / "bad.nii.gz").write_bytes(b"no NIfTI")
    uid = write_series(thin_phantom(), scans / "QUIRREL_ADALBERTA")
    arguments = (scans, "--output_dir", out, "--bundles_dir", bare_bundles, "--dicom", "False")
    assert run(*arguments) == 1
    assert "1 of 3 scans failed:\n  bad: bad.nii.gz is truncated or not a NIfTI file" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == [uid, "good"]
    assert all((folder / "report.json").is_file() for folder in out.iterdir())
    assert re.search(r"Case good: lungs [\d .]+ ml$", caplog.text, re.M)
    caplog.clear()
    (scans / "bad.nii.gz").unlink()
    assert run(*arguments) == NO_NETWORK
    assert "2 of 2 scans finished, 2 of them in an earlier run" in caplog.text
    assert "was finished before: skipped. Remove its folder to do it again" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--precision", "fp16"), "precision is 'fp16'. Expected one of: auto, fp32, bf16. Did you mean bf16?"),
        (("--infection_by", "vbnets"), "infection_by is 'vbnets'. Expected 'either' or 'vbnet'. Did you mean vbnet?"),
        (("--cap_weights", "nowhere.pt"), "No weights at nowhere.pt. Correct the path, or leave --cap_weights out."),
        (("--lungmask_weights", "no.pth"), "No weights at no.pth. Correct the path, or leave --lungmask_weights out."),
    ],
)
def test_options_are_checked_before_the_scan_is_looked_for(tmp_path, options, said):
    given = {options[0].removeprefix("--"): options[1]}
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        diagnose(str(tmp_path / "no scan"), str(tmp_path / "out"), **given)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_with_its_status_and_says_how_to_go_on(run, scan, bare_bundles, tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("custom_components.diagnosis.command.diagnose_scan", interrupted)
    image = write_nifti(scan, tmp_path / "a.nii.gz")
    assert run(image, "--output_dir", tmp_path / "out", "--bundles_dir", bare_bundles) == 130
    assert "run the same command again to continue" in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_look_like_numbers_stay_names(run, scan, bare_bundles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_nifti(scan, tmp_path / "1.10" / "007.nii.gz")
    assert run("1.10", "--output_dir", "2.10", "--bundles_dir", bare_bundles) == NO_NETWORK
    assert (tmp_path / "2.10" / "007" / "report.json").is_file()


def test_a_flag_that_is_a_word_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"include_patient_id is 'false'. Expected True or False"):
        diagnose("a", str(tmp_path), include_patient_id="false")  # type: ignore[arg-type]


def test_results_do_not_go_into_the_folder_of_the_scans(study, bare_bundles):
    with pytest.raises(ValueError, match="output_dir lies in the folder of the scans"):
        diagnose(str(study), str(study / "out"), bundles_dir=str(bare_bundles))
    assert [path.name for path in study.iterdir()] == ["axial"]


def test_the_input_is_left_as_it_was(run, study, bare_bundles, tmp_path):
    before = {path: path.read_bytes() for path in study.rglob("*.dcm")}
    run(study, "--output_dir", tmp_path, "--bundles_dir", bare_bundles, "--dicom", "False")
    assert {path: path.read_bytes() for path in study.rglob("*") if path.is_file()} == before
