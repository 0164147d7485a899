"""Results are kept when a run fails or is killed, and the next run reuses them."""

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
PAGES, VIEWER = {"report.html", "report.json"}, {"viewer.html"}
REPORT = PAGES | {"thumbnail.png"}
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
    """A series that may be changed."""
    write_series(scan, tmp_path / "series")
    return tmp_path / "series"


def files_of(out: Path) -> set[str]:
    """Files of the only case: masks and maps without the case's name, other files by their names."""
    (folder,) = (path for path in out.iterdir() if path.is_dir())
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    case = folder.name.removesuffix(".incomplete")
    return {name.removeprefix(f"{case}_").removesuffix(".nii.gz") for name in names if not name.startswith(".partial")}


def case_of(out: Path) -> str:
    """Folder name of the only case."""
    (name,) = (path.name for path in out.iterdir() if path.is_dir())
    return name


def contents(folder: Path) -> dict[str, object]:
    """Content of the files of a case without times and the UIDs of new objects."""
    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*") if path.is_file()}


def content(path: Path) -> object:
    if path.name.endswith(".nii.gz"):
        return nib.load(path).to_bytes()
    if path.suffix == ".json":
        return {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if key != "seconds"}
    if path.suffix == ".html":
        page = re.sub(r"\b\d+\.\d\b,?", "", path.read_text(encoding="utf-8"))
        return re.sub(r"Seconds?:.*?</p>", "", page, flags=re.DOTALL)
    if path.suffix == ".png":
        return path.read_bytes()
    elements = dcmread(path).iterall()
    return [(one.tag, one.value) for one in elements if one.VR not in ("SQ", "UI", "DA", "TM", "DT")]


@pytest.fixture(scope="module")
def complete(study, scan, bundles, tmp_path_factory) -> dict[str, object]:
    """Files of the study from a run without interruption."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as patch:
        diagnose(str(study), str(folder / "out"), bundles_dir=str(plant(patch, bundles, scan, folder / "bundles")))
    (case,) = (folder / "out").iterdir()
    return contents(case)


def check_same(found: dict[str, object], expected: dict[str, object]) -> None:
    assert found.keys() == expected.keys()
    assert [file for file in found if found[file] != expected[file]] == []


def kill(study: Path, out: Path, bundles: Path, function: str) -> None:
    """Run `diagnose` until it calls a function, which kills it."""
    words = [sys.executable, "-m", "tests.diagnosis.killed_diagnosis", study, out, bundles, function]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ended = subprocess.run([*map(str, words)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


KILLED = {
    "the lesion classes": ("custom_components.diagnosis.pipeline:find_lesions", FOUND, ["lesions", "classification"]),
    "the classifier": ("custom_components.diagnosis.pipeline:classify", FOUND | LESIONS | MASKS, ["classification"]),
    "the report": (
        "custom_components.reports.scan.report:render_page",
        FOUND | LESIONS | MASKS | MAPS | (REPORT - PAGES),
        [],
    ),
    "the viewer": ("custom_components.reports.scan.viewer:render_viewer", FOUND | LESIONS | MASKS | MAPS | REPORT, []),
    "a DICOM object": (
        "custom_components.reports.dicom.objects:make_attention_map",
        FOUND | LESIONS | MASKS | MAPS | REPORT | VIEWER | {"dicom/segmentation.dcm", "dicom/measurements.dcm"},
        [],
    ),
}


# The others are left out of `make test`: each ends with a whole diagnosis.
FAST = ("the classifier", "*_lungs.nii.gz", "attention_us.dcm")


def some_are_slow(names):
    return [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("stage", some_are_slow(KILLED))
def test_after_a_kill_the_next_run_continues_and_gives_the_same_files(run, study, complete, calls, tmp_path, stage):
    pytest.importorskip("highdicom")
    function, left, missing = KILLED[stage]
    kill(study, tmp_path / "out", tmp_path / "planted_bundles", function)
    name = case_of(tmp_path / "out")
    assert name.endswith(".incomplete")
    assert files_of(tmp_path / "out") == left | {MANIFEST}
    for _ in range(2):  # the second run has nothing to do
        assert run(tmp_path / "out") == 0
        assert calls == dict.fromkeys(missing, 1)
    assert case_of(tmp_path / "out") == name.removesuffix(".incomplete")
    check_same(contents(tmp_path / "out" / case_of(tmp_path / "out")), complete)


FULL = {
    "*_lungs.nii.gz": ({"lungs"}, ["masks"]),
    "*_vbnet_infection.nii.gz": ({"vbnet_infection"}, ["masks"]),
    "*[0-9]_infection.nii.gz": ({"infection"}, []),
    "*_attention_us.nii.gz": ({"attention_us"}, ["classification"]),
    "*_lesions.nii.gz": (LESIONS, ["lesions"]),
    "thumbnail.png": ({"thumbnail.png"}, []),
    "report.html": (PAGES, []),
    "report.json": ({"report.json"}, []),
    "viewer.html": (VIEWER, []),
    "attention_us.dcm": ({"dicom/attention_us.dcm"}, []),
}


@pytest.mark.parametrize("pattern", some_are_slow(FULL))
def test_if_one_file_cannot_be_written_the_others_are_and_the_next_run_adds_it(
    run, complete, calls, tmp_path, monkeypatch, caplog, pattern
):
    pytest.importorskip("highdicom")
    missing, again = FULL[pattern]
    with monkeypatch.context() as patch:
        fill_disk(patch, pattern)
        assert run(tmp_path / "out") == 1
    name = case_of(tmp_path / "out")
    assert name.endswith(".incomplete")
    assert (
        files_of(tmp_path / "out")
        == (FOUND | MASKS | MAPS | LESIONS | REPORT | VIEWER | OBJECTS | {MANIFEST}) - missing
    )
    expected = rf"{pattern.replace('*', '.*', 1)} could not be written: No space left on device"
    assert re.search(expected, caplog.records[-1].getMessage())
    failed = json.loads((tmp_path / "out" / name / MANIFEST).read_text(encoding="utf-8"))["failed"]
    assert len(failed) == 1
    calls.clear()
    assert run(tmp_path / "out") == 0
    assert calls == dict.fromkeys(again, 1)
    check_same(contents(tmp_path / "out" / name.removesuffix(".incomplete")), complete)


def fail_after(monkeypatch, module: str, name: str, good_calls: int) -> None:
    """Let a function raise an unexpected error after a number of calls."""
    function, counted = getattr(importlib.import_module(module), name), Counter()

    def call(*args, **options):
        counted[name] += 1
        if counted[name] > good_calls:
            raise RuntimeError("a fault of the writer")
        return function(*args, **options)

    monkeypatch.setattr(f"{module}.{name}", call)


def test_if_dicom_objects_fail_the_report_is_complete_and_the_next_run_writes_only_them(
    run, complete, calls, tmp_path, monkeypatch, caplog
):
    pytest.importorskip("highdicom")
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.reports.dicom.objects", "make_measurements", 1)
        assert run(tmp_path / "out") == 1
    assert "DICOM segmentation and measurements: a fault of the writer" in caplog.records[-1].getMessage()
    maps = {f"dicom/{name}.dcm" for name in MAPS}
    assert maps | REPORT | VIEWER | MASKS | MAPS | LESIONS < files_of(tmp_path / "out")
    name = case_of(tmp_path / "out")
    folder = tmp_path / "out" / name
    passing = (MANIFEST, f"{name.removesuffix('.incomplete')}_vbnet_infection.nii.gz")
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name not in passing and path.is_file()}
    calls.clear()
    assert run(tmp_path / "out") == 0
    assert not calls
    done = tmp_path / "out" / name.removesuffix(".incomplete")
    changed = {path.name for path, time in kept.items() if (done / path.relative_to(folder)).stat().st_mtime_ns != time}
    assert changed <= {"segmentation.dcm"}
    check_same(contents(done), complete)


def test_results_before_a_failing_network_are_kept(run_nifti, calls, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.diagnosis.pipeline", "classify", 0)
        assert run_nifti() == 1
    assert "a: a fault of the writer" in caplog.text
    assert files_of(tmp_path / "out") == FOUND | LESIONS | MASKS | {MANIFEST}
    calls.clear()
    assert run_nifti() == 0
    assert calls == {"classification": 1}


def test_results_before_ctrl_c_are_kept(run_nifti, calls, tmp_path, monkeypatch):
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
    """A case with masks and lesion classes, without maps."""
    with monkeypatch.context() as patch:
        fail_after(patch, "custom_components.diagnosis.pipeline", "classify", 0)
        assert run_nifti() == 1
    calls.clear()
    return run_nifti


ALL = {"masks": 1, "classification": 1, "lesions": 1}


def test_a_changed_scan_of_the_same_name_is_processed_again(interrupted_run, calls, tmp_path):
    image = nib.load(tmp_path / "in" / "a.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine), tmp_path / "in" / "a.nii.gz")
    assert interrupted_run() == 0
    assert calls == ALL


@pytest.mark.parametrize("option", [("--precision", "fp32"), ("--precision", "bf16")])
def test_with_another_precision_everything_is_computed_again(interrupted_run, calls, option):
    assert interrupted_run(*option) == 0
    assert calls == ALL


@pytest.mark.parametrize(
    ("bundle", "again"), [("covid_cap_bundle", ["classification"]), ("covid_seg_bundle", ["lesions", "classification"])]
)
def test_other_weights_repeat_their_stage_and_later_ones(interrupted_run, calls, tmp_path, bundle, again):
    path = tmp_path / "planted_bundles" / bundle / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({name: value + 0 for name, value in reversed(weights.items())}, path)
    assert interrupted_run() == 0
    assert calls == dict.fromkeys(again, 1)


def test_another_source_of_infection_reuses_the_results_of_the_networks(interrupted_run, calls, tmp_path):
    either = nib.load(tmp_path / "out" / "a.incomplete" / "a_infection.nii.gz").get_fdata()
    assert interrupted_run("--infection_by", "vbnet") == 0
    assert calls == {"classification": 1}
    assert nib.load(tmp_path / "out" / "a" / "a_infection.nii.gz").get_fdata().sum() < either.sum()


def test_a_damaged_file_is_computed_again(interrupted_run, calls, tmp_path):
    path = tmp_path / "out" / "a.incomplete" / "a_lesions.nii.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert interrupted_run() == 0
    assert calls == {"lesions": 1, "classification": 1}
    assert nib.load(tmp_path / "out" / "a" / path.name).get_fdata().max() <= 3


def test_without_a_readable_list_of_stages_everything_is_computed_again(interrupted_run, calls, tmp_path):
    (tmp_path / "out" / "a.incomplete" / MANIFEST).write_text("{", encoding="utf-8")
    assert interrupted_run() == 0
    assert calls == ALL


def test_results_that_are_no_longer_requested_are_removed(interrupted_run, calls, tmp_path):
    (tmp_path / "planted_bundles" / "covid_cap_bundle" / "models" / "model.pt").unlink()
    assert interrupted_run("--no-lesion_classes") == 0
    assert not calls
    assert files_of(tmp_path / "out") == MASKS | REPORT | VIEWER


@pytest.mark.parametrize("viewer", [True, False])
def test_the_viewer_can_be_left_out_with_the_link_to_it(run_nifti, calls, tmp_path, monkeypatch, viewer):
    with monkeypatch.context() as patch:
        fill_disk(patch, "report.json")
        assert run_nifti() == 1
    assert files_of(tmp_path / "out") > VIEWER
    calls.clear()
    assert run_nifti("--viewer", str(viewer)) == 0
    assert not calls
    assert files_of(tmp_path / "out") == MASKS | MAPS | LESIONS | REPORT | (VIEWER if viewer else set())
    page = (tmp_path / "out" / "a" / "report.html").read_text(encoding="utf-8")
    assert ('href="viewer.html"' in page) is viewer


SCAN_RUN = logging.getLogger("custom_components.diagnosis.scan_run")


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
def test_a_problem_of_the_dicom_objects_is_logged_before_the_networks_run_and_affects_no_other_file(
    command_line, series, bundles, tmp_path, monkeypatch, caplog, fault, reason
):
    if fault is not without_highdicom:
        pytest.importorskip("highdicom")
    fault(series, monkeypatch)
    find = pipeline.find_lungs
    monkeypatch.setattr(pipeline, "find_lungs", lambda *args: (SCAN_RUN.warning("networks"), find(*args))[1])
    words = ("--output_dir", tmp_path / "out", "--bundles_dir", bundles, "--no-lesion_classes")
    assert command_line("diagnose", series, *words) == 0
    warning, last = (record.getMessage() for record in caplog.records if record.name == SCAN_RUN.name)
    assert reason in warning
    assert last == "networks"
    assert files_of(tmp_path / "out") == {"lungs", *MAPS, *REPORT, *VIEWER}
    (folder,) = (tmp_path / "out").iterdir()
    not_done = json.loads((folder / "report.json").read_text(encoding="utf-8"))["not_done"]
    assert [line for line in not_done if line.startswith("DICOM objects: not written.") and reason in line]
    assert not [path for path in series.iterdir() if path.name in " ".join([warning, *not_done])]


def test_the_check_of_the_dicom_objects_leaves_no_files(command_line, series, bundles, tmp_path, monkeypatch):
    pytest.importorskip("highdicom")
    fail_after(monkeypatch, "custom_components.diagnosis.pipeline", "find_lungs", 0)
    assert command_line("diagnose", series, "--output_dir", tmp_path / "out", "--bundles_dir", bundles) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_too_little_disk_space_is_an_error_before_the_networks_run(run_nifti, calls, tmp_path, monkeypatch, caplog):
    free = shutil.disk_usage(tmp_path)._replace(free=900_000)
    monkeypatch.setattr("custom_components.diagnosis.scan_run.shutil.disk_usage", lambda _: free)
    assert run_nifti() == 1
    assert not calls
    assert "a: the disk of the output folder has 0.9 MB free, but the results need at least 4." in caplog.text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("has_objects", "has_viewer", "needed"),
    [(False, False, 6_400_000), (True, False, 15_400_000), (False, True, 9_400_000)],
)
@pytest.mark.parametrize(("more", "used", "fits"), [(1, 0, True), (-1, 0, False), (-9, 10, True)])
def test_needed_disk_space_grows_with_the_voxels(
    tmp_path, monkeypatch, has_objects, has_viewer, needed, more, used, fits
):
    """100 million voxels: 1 MB + lungs 0.4 + a map 5; DICOM objects add 4 and 5, the viewer 3. Existing files count."""
    (tmp_path / "a_lungs.nii.gz").write_bytes(b"0" * used)
    usage = shutil.disk_usage(tmp_path)._replace(free=needed + more)
    monkeypatch.setattr("custom_components.diagnosis.scan_run.shutil.disk_usage", lambda _: usage)
    with nullcontext() if fits else pytest.raises(ValueError, match="Case a: the disk of the output folder"):
        check_free_space(tmp_path, "a", 10**8, ("lungs", "attention_us"), has_objects, has_viewer)


def test_contradictory_options_are_an_error_before_a_scan_is_read(run_nifti, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ScanSource, "image", lambda _: pytest.fail("a scan was read"))
    assert run_nifti("--seg_weights", __file__, "--no-lesion_classes") == 1
    assert "test_resume.py contradicts --no-lesion_classes" in caplog.records[-1].getMessage()
    assert list((tmp_path / "out").glob("*")) == []


def test_an_output_folder_without_write_access_is_an_error_before_weights_are_loaded(
    command_line, planted, scan, tmp_path, monkeypatch, caplog
):
    (tmp_path / "out").write_text("a file")
    image = write_nifti(scan, tmp_path / "in" / "a.nii.gz")
    monkeypatch.setattr("custom_components.diagnosis.command.Diagnosis", lambda *_: pytest.fail("weights were loaded"))
    assert command_line("diagnose", image, "--output_dir", tmp_path / "out") == 1
    assert "cannot be written to" in caplog.records[-1].getMessage()
