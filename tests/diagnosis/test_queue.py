import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from custom_components.diagnosis.case_folder import MANIFEST, SCAN
from custom_components.diagnosis.kept_results import KeptResults
from custom_components.diagnosis.queue import run_queue, scan_sources
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.lock import held_alone
from custom_components.files.report_files import write_json
from custom_components.images.ct_reader import NOTES

from tests.diagnosis.conftest import PATIENT_NAME, thin_phantom, write_nifti, write_series
from tests.full_disk import fill_disk


@pytest.fixture(scope="module")
def phantom():
    return thin_phantom()


@pytest.fixture
def scans(phantom, tmp_path):
    """Three NIfTI files with the same content."""
    for name in ("a2", "a10", "b"):
        write_nifti(phantom, tmp_path / "scans" / f"{name}.nii.gz")
    return scan_sources(tmp_path / "scans")


def finish(source: ScanSource, folder) -> None:
    (folder / "dicom").mkdir()
    (folder / "dicom" / "segmentation.dcm").write_text(source.case_id)
    (folder / "report.json").write_text(json.dumps({"case_id": source.case_id, SCAN: source.sha256}))


def failing(error, cases=("a10",)):
    """A process that writes a file and then fails for some cases."""

    def process(source, folder):
        (folder / "half.nii.gz").write_text("half")
        if source.case_id in cases:
            raise error
        finish(source, folder)

    return process


def names(sources) -> list[str]:
    return [source.path.name for source in sources]


def folders(out) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_file_or_a_series_is_one_scan(phantom, tmp_path):
    image = write_nifti(phantom, tmp_path / "n" / "a.nii.gz")
    series = tmp_path / "all" / "p1" / "s1"
    write_series(phantom, series)
    assert scan_sources(image) == [ScanSource(image)]
    assert scan_sources(str(series)) == [ScanSource(series)]
    assert [source.case_id for source in scan_sources(tmp_path / "all")] == [ScanSource(series).case_id]


def test_a_study_with_its_series_in_folders_is_one_scan(phantom, tmp_path):
    write_series(phantom, tmp_path / "study" / "s1")
    write_series(phantom, tmp_path / "study" / "deep" / "s2")
    assert names(scan_sources(tmp_path / "study")) == ["study"]


def test_a_folder_of_patients_studies_and_files_is_a_queue_in_natural_order(phantom, tmp_path):
    root = tmp_path / "all"
    write_series(phantom, root / "p10" / "study" / "s1", study="1.10")
    write_series(phantom, root / "p10" / "study" / "s2", study="1.10")
    write_series(phantom, root / "p2" / "first", study="1.21")
    write_series(phantom, root / "p2" / "second", study="1.22")
    write_nifti(phantom, root / "x.nii.gz")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("a")
    found = [str(source.path.relative_to(root)) for source in scan_sources(root)]
    assert found == ["x.nii.gz", "p2/first", "p2/second", "p10/study"]


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "does not exist"), ("a.png", "not supported"), ("empty", "contains neither")]
)
def test_a_path_without_scans_is_an_error_that_says_what_is_expected(tmp_path, name, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").write_bytes(b"png")
    with pytest.raises(ValueError, match=rf"{words}.*Expected a NIfTI file"):
        scan_sources(tmp_path / name)


def test_every_case_has_its_own_folder(scans, tmp_path):
    result = run_queue(scans, tmp_path / "out", finish)
    assert result.done == ["a2", "a10", "b"]
    expected = {f"{name}/{file}" for name in result.done for file in ("report.json", "dicom/segmentation.dcm")}
    assert files(tmp_path / "out") == expected


def test_a_dicom_case_has_the_name_of_its_series_and_not_of_its_folder(phantom, tmp_path, caplog):
    caplog.set_level("INFO")
    uid = write_series(phantom, tmp_path / PATIENT_NAME)
    result = run_queue(scan_sources(tmp_path / PATIENT_NAME), tmp_path / "out", finish)
    assert result.done == [uid]
    assert f"Case {uid} (1 of 1) is finished" in caplog.text
    assert PATIENT_NAME not in caplog.text


def test_a_queue_frees_the_scans_it_has_read_and_reports_its_rate(phantom, tmp_path):
    write_series(phantom, tmp_path / "scan")
    (source,) = scan_sources(tmp_path / "scan")
    result = run_queue([source], tmp_path / "out", finish)
    assert "chest" not in vars(source)
    assert result.scans_an_hour == pytest.approx(3600 / result.seconds)
    assert run_queue([source], tmp_path / "out", finish).scans_an_hour == 0


def test_a_failed_case_is_reported_and_the_queue_continues(scans, tmp_path, caplog):
    result = run_queue(scans, tmp_path / "out", failing(ValueError("Case a10: no plausible lungs found.")))
    assert (result.done, result.failed) == (["a2", "b"], {"a10": "no plausible lungs found."})
    assert "Case a10 failed: no plausible lungs found." in caplog.text
    assert f"Case a10: its results so far are in {tmp_path / 'out' / 'a10.incomplete'}." in caplog.text
    assert folders(tmp_path / "out") == ["a10.incomplete", "a2", "b"]
    assert files(tmp_path / "out" / "a10.incomplete") == {"half.nii.gz"}


def test_a_case_that_fails_without_results_has_no_folder(scans, tmp_path, caplog):
    def process(source, folder):
        write_json(folder / MANIFEST, {})
        raise ValueError("no plausible lungs found.")

    assert len(run_queue(scans, tmp_path / "out", process).failed) == 3
    assert list((tmp_path / "out").iterdir()) == []
    assert "so far" not in caplog.text


def test_an_unreadable_study_is_named_by_its_position(phantom, tmp_path, caplog):
    write_series(phantom, tmp_path / "all" / "1", study="1.21")
    broken = tmp_path / "all" / PATIENT_NAME
    broken.mkdir()
    (broken / "a.dcm").write_bytes(b"no DICOM")
    result = run_queue(scan_sources(tmp_path / "all"), tmp_path / "out", finish)
    assert len(result.done) == 1
    ((name, reason),) = result.failed.items()
    assert name == "input 2 of 2, in the order of their names"
    assert "No DICOM images in the folder (1 files without readable header)" in reason
    assert PATIENT_NAME not in caplog.text + name + reason


def test_finished_cases_are_skipped_and_failed_ones_repeated(scans, tmp_path):
    run_queue(scans, tmp_path / "out", failing(ValueError("disk full"), ("a10", "b")))
    before = (tmp_path / "out" / "a2" / "report.json").stat().st_mtime_ns
    result = run_queue(scans, tmp_path / "out", finish)
    assert (result.skipped, result.done, result.failed) == (["a2"], ["a10", "b"], {})
    assert (tmp_path / "out" / "a2" / "report.json").stat().st_mtime_ns == before


def test_after_an_interrupt_the_folder_of_the_current_case_is_incomplete(scans, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_queue(scans, tmp_path / "out", failing(KeyboardInterrupt()))
    assert folders(tmp_path / "out") == ["a10.incomplete", "a2"]
    result = run_queue(scans, tmp_path / "out", finish)
    assert (result.skipped, result.done) == (["a2"], ["a10", "b"])
    assert folders(tmp_path / "out") == ["a10", "a2", "b"]
    assert "half.nii.gz" in files(tmp_path / "out" / "a10")


def test_a_complete_folder_that_was_not_yet_moved_is_only_moved(scans, tmp_path):
    folder = tmp_path / "out" / "a10.incomplete"
    folder.mkdir(parents=True)
    finish(scans[1], folder)

    def process(source, folder):
        assert source.case_id != "a10"
        finish(source, folder)

    assert run_queue(scans, tmp_path / "out", process).done == ["a2", "a10", "b"]
    assert files(tmp_path / "out" / "a10") == {"report.json", "dicom/segmentation.dcm"}


def test_a_case_of_another_running_process_is_an_error_and_is_not_changed(scans, tmp_path):
    """Locks of two open files exclude each other as those of two processes do."""
    out = tmp_path / "out"
    (out / "a10.incomplete").mkdir(parents=True)
    (out / "a10.incomplete" / "a10_lungs.nii.gz").write_text("the other's")
    with held_alone(out / ".a10.lock") as is_held:
        assert is_held
        result = run_queue(scans, out, finish)
    assert result.done == ["a2", "b"]
    assert result.failed.keys() == {"a10"}
    assert result.failed["a10"].startswith("Another process works on this case in the same output folder. Wait until")
    assert files(out / "a10.incomplete") == {"a10_lungs.nii.gz"}
    assert run_queue(scans, out, finish).done == ["a10"]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_case_that_another_process_has_just_finished_is_not_repeated(scans, tmp_path, monkeypatch):
    """It is finished between the check of its folder and the lock."""
    out = tmp_path / "out"

    @contextmanager
    def finished_by_another(path):
        (out / "a10").mkdir()
        finish(scans[1], out / "a10")
        yield True

    monkeypatch.setattr("custom_components.diagnosis.case_folder.held_alone", finished_by_another)
    run_queue(scans[1:2], out, lambda *_: pytest.fail("done again"))
    assert files(out) == {"a10/report.json", "a10/dicom/segmentation.dcm"}


def test_other_files_in_the_folder_of_a_case_are_kept(scans, tmp_path):
    (tmp_path / "out" / "b" / "dicom").mkdir(parents=True)
    (tmp_path / "out" / "b" / "b_diagnosis.json").write_text("{}")
    assert "b" in run_queue(scans, tmp_path / "out", finish).done
    assert files(tmp_path / "out" / "b") == {"b_diagnosis.json", "report.json", "dicom/segmentation.dcm"}


def test_another_scan_with_the_same_name_gets_a_unique_name(scans, tmp_path, caplog):
    """In the same run and in a later one."""
    other = ScanSource(write_nifti(thin_phantom(3), tmp_path / "other" / "b.nii.gz"))
    own_name = f"b_{other.sha256[:12]}"
    result = run_queue([*scans, other], tmp_path / "out", finish)
    assert result.done == ["a2", "a10", "b", own_name]
    assert f"has results in the same folder. Its name in the results is {own_name}" in caplog.text
    assert run_queue([*scans, other], tmp_path / "out", finish).skipped == ["a2", "a10", "b", own_name]
    assert run_queue([other], tmp_path / "out", finish).skipped == [own_name]


def test_unfinished_results_of_another_scan_with_the_same_name_are_kept(scans, tmp_path):
    other = ScanSource(write_nifti(thin_phantom(3), tmp_path / "other" / "b.nii.gz"))

    def ended(source, folder):
        KeptResults(folder, source.case_id, np.eye(4), source.clock, source.sha256)
        (folder / "half.nii.gz").write_text("half")
        raise ValueError("ended")

    run_queue([other], tmp_path / "out", ended)
    assert run_queue(scans[2:], tmp_path / "out", finish).done == [f"b_{scans[2].sha256[:12]}"]
    assert (tmp_path / "out" / "b.incomplete" / "half.nii.gz").read_text() == "half"


def test_the_same_scan_twice_is_processed_once(scans, tmp_path):
    result = run_queue([scans[2], scans[2]], tmp_path / "out", finish)
    assert (result.done, result.skipped, result.failed) == (["b"], ["b"], {})


@pytest.mark.parametrize("later", [False, True])
def test_two_series_with_one_identifier_are_two_cases(later, phantom, tmp_path):
    """Some anonymizers give all series one SeriesInstanceUID, and all images those of the first series."""
    uids = {write_series(phantom, tmp_path / "scans" / "1", SeriesInstanceUID="1.5", study="1.21")}
    uids.add(write_series(thin_phantom(3), tmp_path / "scans" / "2", SeriesInstanceUID="1.5", study="1.22"))
    for first, second in zip(*(sorted((tmp_path / "scans" / name).iterdir()) for name in "12"), strict=True):
        image, other = pydicom.dcmread(first), pydicom.dcmread(second)
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        other.save_as(second)
    assert uids == {"1.5"}
    queue = scan_sources(tmp_path / "scans")
    parts = [queue[:1], queue[1:]] if later else [queue]
    done = [case for part in parts for case in run_queue(part, tmp_path / "out", finish).done]
    assert done == ["1.5", f"1.5_{queue[1].sha256[:12]}"]
    assert (
        "another scan with the same file name or SeriesInstanceUID"
        in replace(queue[1], suffix="_x").image().meta[NOTES]
    )


def test_out_of_memory_ends_the_queue(scans, tmp_path):
    with pytest.raises(MemoryError):
        run_queue(scans, tmp_path / "out", failing(MemoryError()))


def test_only_the_case_of_a_deleted_file_fails(scans, tmp_path):
    def process(source, folder):
        source.image()
        finish(source, folder)

    scans[1].path.unlink()
    result = run_queue(scans, tmp_path / "out", process)
    assert result.done == ["a2", "b"]
    assert result.failed["a10"].endswith("a10.nii.gz does not exist. Check the path or the datalist.")


def test_only_the_case_of_a_deleted_folder_fails_and_the_folder_is_not_named(phantom, tmp_path, caplog):
    for number, name in enumerate(("1", PATIENT_NAME)):
        write_series(phantom, tmp_path / "all" / name, study=f"1.2{number}")
    sources = scan_sources(tmp_path / "all")
    shutil.rmtree(tmp_path / "all" / PATIENT_NAME)
    result = run_queue(sources, tmp_path / "out", finish)
    assert len(result.done) == 1
    ((name, reason),) = result.failed.items()
    assert name == "input 2 of 2, in the order of their names"
    assert reason == "The folder of the scan was removed during the run. Restore it and start again."
    assert PATIENT_NAME not in caplog.text + reason


def test_a_full_disk_is_reported_with_the_file_and_no_partial_file_remains(scans, tmp_path, monkeypatch):
    def process(source, folder):
        write_json(folder / f"{source.case_id}.json", {})
        finish(source, folder)

    fill_disk(monkeypatch, "a10.json")
    result = run_queue(scans, tmp_path / "out", process)
    assert result.done == ["a2", "b"]
    file = tmp_path / "out" / "a10.incomplete" / "a10.json"
    message = f"{file} could not be written: No space left on device. Free space, or choose another folder."
    assert result.failed == {"a10": message}
    assert folders(tmp_path / "out") == ["a2", "b"]


def test_a_deleted_slice_is_reported_without_the_name_of_its_folder(phantom, tmp_path, caplog):
    folder = tmp_path / PATIENT_NAME
    uid = write_series(phantom, folder)

    error = FileNotFoundError(2, "No such file or directory", str(folder / "IM0001.dcm"))
    result = run_queue(scan_sources(folder), tmp_path / "out", failing(error, (uid,)))
    reason = "No such file or directory. Check the path, and whether it was removed during the run."
    assert result.failed == {uid: f"<the folder of the scan>/IM0001.dcm: {reason}"}
    assert PATIENT_NAME not in caplog.text


@pytest.mark.parametrize("study", ["", "1.2.3"])
def test_different_patients_are_different_scans_even_with_the_same_or_no_study_uid(phantom, tmp_path, study):
    for name in ("P1", "P2"):
        write_series(phantom, tmp_path / "all" / name, study=study, PatientID=name)
    assert names(scan_sources(tmp_path / "all")) == ["P1", "P2"]


def test_a_scan_keeps_the_name_that_it_was_given(phantom, tmp_path):
    image, series = write_nifti(phantom, tmp_path / "a.nii.gz"), tmp_path / PATIENT_NAME
    write_series(phantom, series)
    sources = [ScanSource(image, name="P001"), ScanSource(series, name="P002")]
    assert [source.case_id for source in sources] == ["P001", "P002"]
    result = run_queue(sources, tmp_path / "out", finish)
    assert folders(tmp_path / "out") == result.done == ["P001", "P002"]
    assert result.paths == {"P001": image, "P002": series}


def test_a_given_name_is_not_changed_for_another_scan(phantom, tmp_path):
    """Without the results of the first scan, the second one is processed under its name."""
    first, second = (write_nifti(thin_phantom(seed), tmp_path / f"{seed}.nii.gz") for seed in (0, 1))
    run_queue([ScanSource(first, name="P001")], tmp_path / "out", finish)
    source = ScanSource(second, name="P001")
    result = run_queue([source], tmp_path / "out", finish)
    assert result.failed.keys() == {"P001"}
    assert "of another scan. Remove its folder to repeat it" in result.failed["P001"]
    shutil.rmtree(tmp_path / "out" / "P001")
    assert run_queue([source], tmp_path / "out", finish).done == ["P001"]


def test_an_unfinished_case_of_a_given_name_is_processed_with_the_new_scan(phantom, tmp_path):
    first, second = (write_nifti(thin_phantom(seed), tmp_path / f"{seed}.nii.gz") for seed in (0, 1))

    def interrupted(source, folder):
        write_json(folder / MANIFEST, {SCAN: source.sha256, "stages": {}})
        (folder / "lungs.nii.gz").write_text("half")
        raise ValueError("disk full")

    run_queue([ScanSource(first, name="P001")], tmp_path / "out", interrupted)
    assert folders(tmp_path / "out") == ["P001.incomplete"]
    assert run_queue([ScanSource(second, name="P001")], tmp_path / "out", finish).done == ["P001"]
