"""Nothing that was computed is lost: what a run leaves that fails or is killed, and what the next one does."""

import importlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from custom_components.diagnosis import pipeline
from custom_components.diagnosis.case_folder import MANIFEST
from custom_components.diagnosis.command import diagnose
from custom_components.diagnosis.scan_run import check_free_space
from custom_components.diagnosis.scan_source import ScanSource
from pydicom import dcmread

from tests.bundles.conftest import ROOT
from tests.diagnosis.conftest import change_series, plant, write_nifti, write_series
from tests.full_disk import fill_disk

NETWORKS = {"find_lungs": "masks", "classify": "classification", "find_lesions": "lesions"}
FOUND, MASKS = {"lungs", "vbnet_infection"}, {"lungs", "infection"}  # of the first stage; of a finished case
MAPS, LESIONS = {"attention_us", "attention_ss"}, {"lesions"}
REPORT = {"report.html", "report.json"}
OBJECTS = {f"dicom/{name}.dcm" for name in ("segmentation", "measurements", *MAPS)}


@pytest.fixture
def calls(monkeypatch) -> Counter:
    """How often each network is applied to a scan."""
    counted: Counter = Counter()

    def count(stage, function, *args, **options):
        counted[stage] += 1
        return function(*args, **options)

    for name, stage in NETWORKS.items():
        monkeypatch.setattr(pipeline, name, partial(count, stage, getattr(pipeline, name)))
    return counted


@pytest.fixture
def run(command_line, study, planted, scan, tmp_path):
    """`diagnose` of the study into a folder."""
    return partial(command_line, "diagnose", study, "--bundles_dir", planted(scan), "--output_dir")


@pytest.fixture
def run_nifti(command_line, planted, scan, tmp_path):
    image = write_nifti(scan, tmp_path / "in" / "a.nii.gz")
    return partial(command_line, "diagnose", image, "--bundles_dir", planted(scan), "--output_dir", tmp_path / "out")


@pytest.fixture
def series(scan, tmp_path):
    """A series of its own, to be changed."""
    write_series(scan, tmp_path / "series")
    return tmp_path / "series"


def files_of(out: Path) -> set[str]:
    """Files of the only case: masks and maps by their ends, other files by their names."""
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    case = folder.name.removesuffix(".incomplete")
    return {name.removeprefix(f"{case}_").removesuffix(".nii.gz") for name in names if not name.startswith(".partial")}


def folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir())


def contents(folder: Path) -> dict[str, object]:
    """All that a case's files say, less times and the UIDs that each object gets anew."""
    found: dict[str, object] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        found[str(path.relative_to(folder))] = content(path)
    return found


def content(path: Path) -> object:
    if path.name.endswith(".nii.gz"):
        return nib.load(path).to_bytes()
    if path.suffix == ".json":
        return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "seconds"}
    if path.suffix == ".html":
        return re.sub(
            r"Seconds?:.*?</p>", "", re.sub(r"\b\d+\.\d\b,?", "", path.read_text(encoding="utf-8")), flags=re.DOTALL
        )
    elements = dcmread(path).iterall()
    return [(one.tag, one.value) for one in elements if one.VR not in ("SQ", "UI", "DA", "TM", "DT")]


@pytest.fixture(scope="module")
def unbroken(study, scan, bundles, tmp_path_factory) -> dict[str, object]:
    """What the study gives in one go."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        diagnose(str(study), str(folder / "out"), bundles_dir=str(plant(patch, bundles, scan, folder / "bundles")))
    (case,) = (folder / "out").iterdir()
    return contents(case)


def kill(study: Path, out: Path, bundles: Path, function: str) -> None:
    """Run `diagnose` until it comes to a function, which kills it."""
    words = [sys.executable, "-m", "tests.diagnosis.killed_diagnosis", study, out, bundles, function]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run([*map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


KILLED = {
    "the lesion classes": ("custom_components.diagnosis.pipeline:find_lesions", FOUND, ["lesions", "classification"]),
    "the classifier": ("custom_components.diagnosis.pipeline:classify", FOUND | LESIONS | MASKS, ["classification"]),
    "the report": ("custom_components.reports.scan.report:render_page", FOUND | LESIONS | MASKS | MAPS, []),
    "a DICOM object": (
        "custom_components.reports.dicom.objects:make_attention_map",
        FOUND | LESIONS | MASKS | MAPS | REPORT | {"dicom/segmentation.dcm", "dicom/measurements.dcm"},
        [],
    ),
}


@pytest.mark.parametrize("stage", KILLED)
def test_killed_in_a_stage_it_goes_on_and_ends_as_an_unbroken_run(run, study, unbroken, calls, tmp_path, caplog, stage):
    pytest.importorskip("highdicom")
    function, left, missing = KILLED[stage]
    kill(study, tmp_path / "out", tmp_path / "planted_bundles", function)
    (name,) = folders(tmp_path / "out")
    assert name.endswith(".incomplete")
    assert files_of(tmp_path / "out") == left | {MANIFEST}
    assert run(tmp_path / "out") == 0
    assert calls == dict.fromkeys(missing, 1)
    assert folders(tmp_path / "out") == [name.removesuffix(".incomplete")]
    found = contents(tmp_path / "out" / folders(tmp_path / "out")[0])
    assert found.keys() == unbroken.keys()
    assert [file for file in found if found[file] != unbroken[file]] == []
    assert run(tmp_path / "out") == 0
    assert calls == dict.fromkeys(missing, 1)


FULL = {
    "*_lungs.nii.gz": ({"lungs"}, ["masks"]),
    "*_vbnet_infection.nii.gz": ({"vbnet_infection"}, ["masks"]),
    "*[0-9]_infection.nii.gz": ({"infection"}, []),
    "*_attention_us.nii.gz": ({"attention_us"}, ["classification"]),
    "*_lesions.nii.gz": (LESIONS, ["lesions"]),
    "report.html": (REPORT, []),
    "report.json": ({"report.json"}, []),
    "attention_us.dcm": ({"dicom/attention_us.dcm"}, []),
}


@pytest.mark.parametrize("pattern", FULL)
def test_a_full_disk_for_one_file_leaves_all_others_and_the_next_run_does_what_is_missing(
    run, unbroken, calls, tmp_path, monkeypatch, caplog, pattern
):
    pytest.importorskip("highdicom")
    missing, again = FULL[pattern]
    with monkeypatch.context() as patch:
        fill_disk(patch, pattern)
        assert run(tmp_path / "out") == 1
    (name,) = folders(tmp_path / "out")
    assert name.endswith(".incomplete")
    assert files_of(tmp_path / "out") == (FOUND | MASKS | MAPS | LESIONS | REPORT | OBJECTS | {MANIFEST}) - missing
    told = caplog.records[-1].getMessage()
    assert re.search(rf"{pattern.replace('*', '.*', 1)} could not be written: No space left on device", told)
    failed = json.loads((tmp_path / "out" / name / MANIFEST).read_text(encoding="utf-8"))["failed"]
    assert len(failed) == 1
    calls.clear()
    assert run(tmp_path / "out") == 0
    assert calls == dict.fromkeys(again, 1)
    found = contents(tmp_path / "out" / name.removesuffix(".incomplete"))
    assert {file: found[file] == unbroken[file] for file in unbroken} == dict.fromkeys(unbroken, True)


def fail_after(monkeypatch, module: str, name: str, good_calls: int) -> None:
    """Let a function raise what no library should, once it was called that often."""
    function, counted = getattr(importlib.import_module(module), name), Counter()

    def call(*args, **options):
        counted[name] += 1
        if counted[name] > good_calls:
            raise RuntimeError("a fault of the writer")
        return function(*args, **options)

    monkeypatch.setattr(f"{module}.{name}", call)


def test_dicom_objects_that_fail_leave_a_complete_report_and_are_all_that_is_done_again(
    run, unbroken, calls, tmp_path, monkeypatch, caplog
):
    """The trial before the networks passes."""
    pytest.importorskip("highdicom")
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.reports.dicom.objects", "make_measurements", 1)
        assert run(tmp_path / "out") == 1
    assert "DICOM segmentation and measurements: a fault of the writer" in caplog.records[-1].getMessage()
    maps = {f"dicom/{name}.dcm" for name in MAPS}
    assert maps | REPORT | MASKS | MAPS | LESIONS < files_of(tmp_path / "out")
    (name,) = folders(tmp_path / "out")
    folder = tmp_path / "out" / name
    passing = (MANIFEST, f"{name.removesuffix('.incomplete')}_vbnet_infection.nii.gz")
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in passing and path.is_file()}
    calls.clear()
    assert run(tmp_path / "out") == 0
    assert not calls
    done = tmp_path / "out" / name.removesuffix(".incomplete")
    changed = {path.name for path, time in kept.items() if (done / path.relative_to(folder)).stat().st_mtime_ns != time}
    assert changed <= {"segmentation.dcm"}
    assert contents(done) == unbroken


def test_a_network_that_fails_leaves_what_was_found_before(run_nifti, calls, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.diagnosis.pipeline", "classify", 0)
        assert run_nifti() == 1
    assert "a: a fault of the writer" in caplog.text
    assert files_of(tmp_path / "out") == FOUND | LESIONS | MASKS | {MANIFEST}
    calls.clear()
    assert run_nifti() == 0
    assert calls == {"classification": 1}


def test_ctrl_c_keeps_what_was_found(run_nifti, calls, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "find_lesions", interrupted)
        assert run_nifti() == 130
    assert files_of(tmp_path / "out") == FOUND | {MANIFEST}
    calls.clear()
    assert run_nifti() == 0
    assert calls == {"lesions": 1, "classification": 1}


@pytest.fixture
def interrupted_run(run_nifti, calls, tmp_path, monkeypatch):
    """A case with masks and lesion classes, and no maps yet."""
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.diagnosis.pipeline", "classify", 0)
        assert run_nifti() == 1
    calls.clear()
    return run_nifti


ALL = {"masks": 1, "classification": 1, "lesions": 1}


def test_another_scan_of_the_same_name_is_looked_at_anew(interrupted_run, calls, tmp_path):
    image = nib.load(tmp_path / "in" / "a.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "in" / "a.nii.gz")
    assert interrupted_run() == 0
    assert calls == ALL


@pytest.mark.parametrize("option", [("--precision", "fp32"), ("--precision", "bf16")])
def test_other_options_of_the_networks_let_all_be_done_anew(interrupted_run, calls, option):
    assert interrupted_run(*option) == 0
    assert calls == ALL


@pytest.mark.parametrize(
    ("bundle", "again"), [("covid_cap_bundle", ["classification"]), ("covid_seg_bundle", ["lesions", "classification"])]
)
def test_other_weights_let_their_stage_and_those_after_it_be_done_anew(interrupted_run, calls, tmp_path, bundle, again):
    path = tmp_path / "planted_bundles" / bundle / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: value + 0 for name, value in reversed(weights.items())}, path)
    assert interrupted_run() == 0
    assert calls == dict.fromkeys(again, 1)


def test_another_source_of_infection_uses_the_networks_results_again(interrupted_run, calls, tmp_path):
    either = nib.load(tmp_path / "out" / "a.incomplete" / "a_infection.nii.gz").get_fdata()
    assert interrupted_run("--infection_by", "vbnet") == 0
    assert calls == {"classification": 1}
    assert nib.load(tmp_path / "out" / "a" / "a_infection.nii.gz").get_fdata().sum() < either.sum()


def test_a_file_that_was_changed_meanwhile_is_not_taken(interrupted_run, calls, tmp_path):
    path = tmp_path / "out" / "a.incomplete" / "a_lesions.nii.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert interrupted_run() == 0
    assert calls == {"lesions": 1, "classification": 1}
    assert nib.load(tmp_path / "out" / "a" / path.name).get_fdata().max() <= 3


def test_a_list_that_cannot_be_read_lets_all_be_done_anew(interrupted_run, calls, tmp_path):
    (tmp_path / "out" / "a.incomplete" / MANIFEST).write_text("{", encoding="utf-8")
    assert interrupted_run() == 0
    assert calls == ALL


def test_what_is_not_asked_for_any_more_does_not_stay(interrupted_run, calls, tmp_path):
    (tmp_path / "planted_bundles" / "covid_cap_bundle" / "models" / "model.pt").unlink()
    assert interrupted_run("--no-lesion_classes") == 0
    assert not calls
    assert files_of(tmp_path / "out") == MASKS | REPORT


@pytest.fixture
def order(calls, monkeypatch, caplog) -> list[str]:
    """Warnings of `diagnose` and the networks, as they come."""
    events: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record):
            events.append(record.getMessage())

    logger = logging.getLogger("custom_components.diagnosis.scan_run")
    listener = Listener(logging.WARNING)
    logger.addHandler(listener)
    find = pipeline.find_lungs
    monkeypatch.setattr(pipeline, "find_lungs", lambda *args: (events.append("networks"), find(*args))[1])
    yield events
    logger.removeHandler(listener)


def without_highdicom(series, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)


def of_no_character_set(series, monkeypatch):
    change_series(series, SpecificCharacterSet="ISO_IR 999")


def with_headers_that_highdicom_refuses(series, monkeypatch):
    fail_after(monkeypatch, "custom_components.reports.dicom.objects", "make_segmentation", 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (without_highdicom, "needs highdicom, which is not installed"),
        (of_no_character_set, "character set ISO_IR 999, which DICOM does not have"),
        (with_headers_that_highdicom_refuses, "headers of the series are not valid (RuntimeError)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_of_the_dicom_objects_is_known_before_the_networks_and_stops_nothing_else(
    command_line, series, bundles, order, tmp_path, monkeypatch, fault, reason
):
    if fault is not without_highdicom:
        pytest.importorskip("highdicom")
    fault(series, monkeypatch)
    words = ("--output_dir", tmp_path / "out", "--bundles_dir", bundles, "--no-lesion_classes")
    assert command_line("diagnose", series, *words) == 0
    assert [event if event == "networks" else reason in event for event in order] == [True, "networks"]
    assert files_of(tmp_path / "out") == {"lungs", *MAPS, *REPORT}
    (folder,) = (tmp_path / "out").iterdir()
    not_done = json.loads((folder / "report.json").read_text(encoding="utf-8"))["not_done"]
    assert [told for told in not_done if told.startswith("DICOM objects: not written.") and reason in told]
    assert not [path for path in series.iterdir() if path.name in " ".join([*order, *not_done])]


def test_the_trial_of_the_dicom_objects_leaves_nothing(command_line, series, bundles, tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    fail_after(monkeypatch, "custom_components.diagnosis.pipeline", "find_lungs", 0)
    assert command_line("diagnose", series, "--output_dir", tmp_path / "out", "--bundles_dir", bundles) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_without_room_for_the_results_is_known_before_the_networks(
    run_nifti, calls, tmp_path, monkeypatch, caplog
):
    free = shutil.disk_usage(tmp_path)._replace(free=900_000)
    monkeypatch.setattr("custom_components.diagnosis.scan_run.shutil.disk_usage", lambda _: free)
    assert run_nifti() == 1
    assert not calls
    assert "a: the disk of the output folder has 0.9 MB free, but the results need at least 1." in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


def test_room_is_needed_by_the_voxel_and_what_is_there_counts(tmp_path, monkeypatch):
    """100 million voxels: 1 MB + lungs 0.4 MB + a map 5 MB, and as DICOM 4 and 5 MB more."""
    usage = shutil.disk_usage(tmp_path)
    volumes = ("lungs", "attention_us")
    for has_objects, needed in ((False, 6_400_000), (True, 15_400_000)):
        for free, there, fits in ((needed + 1, 0, True), (needed - 1, 0, False), (needed - 9, 10, True)):
            (tmp_path / "a_lungs.nii.gz").write_bytes(b"0" * there)
            found = usage._replace(free=free)
            monkeypatch.setattr("custom_components.diagnosis.scan_run.shutil.disk_usage", lambda _, found=found: found)
            with nullcontext() if fits else pytest.raises(ValueError, match="Case a: the disk of the output folder"):
                check_free_space(tmp_path, "a", 10**8, volumes, has_objects)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "fp8"), "precision is 'fp8'"),
        (("--cap_weights", "missing.pt"), "No weights at missing.pt"),
        (("--seg_weights", __file__, "--no-lesion_classes"), "test_resume.py contradicts --no-lesion_classes"),
    ],
)
def test_options_that_make_no_sense_are_known_before_a_scan_is_read(
    run_nifti, calls, tmp_path, monkeypatch, caplog, words, message
):
    monkeypatch.setattr(ScanSource, "image", lambda _: pytest.fail("a scan was read"))
    assert run_nifti(*words) == 1
    assert message in caplog.records[-1].getMessage()
    assert not calls
    assert list((tmp_path / "out").glob("*")) == []


def test_an_output_folder_that_cannot_be_written_to_is_known_before_weights_are_loaded(
    command_line, planted, scan, tmp_path, monkeypatch, caplog
):
    (tmp_path / "out").write_text("a file")
    image = write_nifti(scan, tmp_path / "in" / "a.nii.gz")
    monkeypatch.setattr("custom_components.diagnosis.command.Diagnosis", lambda *_: pytest.fail("weights were loaded"))
    assert command_line("diagnose", image, "--output_dir", tmp_path / "out") == 1
    assert "cannot be written to" in caplog.records[-1].getMessage()
