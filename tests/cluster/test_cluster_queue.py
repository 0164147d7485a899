import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from custom_components.cluster.connection import ClusterOptions
from custom_components.diagnosis.cluster_queue import LOCK, NetworkFiles, ScanWork, run_cluster_queue
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.queue import process_scan, run_queue, scan_sources
from custom_components.files.lock import held_alone
from custom_components.files.report_files import write_json

from tests.cluster.conftest import add_node
from tests.cluster.works import NoNetworks, write_case
from tests.diagnosis.conftest import PATIENT_NAME, thin_phantom, write_series
from tests.full_disk import fill_disk

DRIVER = """
import sys
from functools import partial
from pathlib import Path
from custom_components.cluster.connection import ClusterOptions
from custom_components.diagnosis.cluster_queue import ScanWork, run_cluster_queue
from custom_components.diagnosis.queue import iter_sources
from tests.cluster.works import NoNetworks, write_case

scans, out, address, seconds = sys.argv[1:]
work = ScanWork(NoNetworks(), partial(write_case, seconds=float(seconds)), Path(out))
run_cluster_queue(iter_sources(scans), work, ClusterOptions(address, workers=3, cores=1))
"""


def write_scans(folder: Path, count: int, **special: int) -> Path:
    """Files with the names of scans; the stand-in reads none."""
    folder.mkdir()
    names = {f"s{number:03d}": "" for number in range(count)}
    for word, number in special.items():
        names.pop(f"s{number:03d}")
        names[f"s{number:03d}_{word}"] = ""
    for name in names:
        (folder / f"{name}.nii.gz").write_text(name)
    return folder


def work_in(out: Path, seconds: float = 0.0) -> ScanWork:
    return ScanWork(NoNetworks(), partial(write_case, seconds=seconds), out)


def locally(scans: Path, out: Path):
    return run_queue(scan_sources(scans), out, lambda source, folder: write_case(source, folder, None))


def set_when(event: threading.Event, path: Path) -> None:
    """Set the event when the file is there."""
    while not path.is_file():
        time.sleep(0.1)
    event.set()


def contents(out: Path) -> dict[str, str]:
    """Files of the cases; a killed worker leaves the empty lock file of its case."""
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(out).as_posix(): path.read_text(encoding="utf-8") for path in files}


@pytest.mark.usefixtures("cluster")
class TestOnTheCluster:
    def test_the_folders_are_those_of_the_local_queue(self, options, tmp_path, caplog):
        caplog.set_level("INFO")
        scans = write_scans(tmp_path / "scans", 12, fails=5)
        here, there = locally(scans, tmp_path / "here"), tmp_path / "there"
        result = run_cluster_queue(scan_sources(scans), work_in(there), options, keep_paths=True)
        assert contents(there) == contents(tmp_path / "here")
        assert (sorted(result.done), result.failed, result.count) == (sorted(here.done), here.failed, 12)
        assert result.paths == here.paths
        assert [name for name, _ in result.slowest()] == ["think"]
        assert "Case s003 (4) is finished" in caplog.text
        assert "Case s003: it was number s003" in caplog.text
        assert "think: " in caplog.text
        again = run_cluster_queue(scan_sources(scans), work_in(there), options)
        assert (again.done, len(again.skipped), list(again.failed)) == ([], 11, ["s005_fails"])

    def test_a_scan_that_kills_its_worker_is_reported_by_name(self, options, tmp_path):
        scans = write_scans(tmp_path / "scans", 6, kills=2)
        result = run_cluster_queue(scan_sources(scans), work_in(tmp_path / "out"), options)
        assert len(result.done) == 5
        assert list(result.failed) == ["s002_kills"]
        assert "its worker ended 2 times" in result.failed["s002_kills"]

    def test_two_scans_of_one_name_are_both_kept(self, options, tmp_path):
        for name in ("a", "b"):
            write_series(thin_phantom(), tmp_path / "scans" / name, SeriesInstanceUID="1.2.3.4", study=f"1.{ord(name)}")
        result = run_cluster_queue(scan_sources(tmp_path / "scans"), work_in(tmp_path / "out"), options)
        assert result.failed == {}
        first, second = sorted(result.done)
        assert (first, second[:8]) == ("1.2.3.4", "1.2.3.4_")

    def test_the_folder_of_a_patient_is_never_named(self, options, tmp_path, caplog, capfd):
        caplog.set_level("INFO")
        folder = tmp_path / "scans" / PATIENT_NAME
        folder.mkdir(parents=True)
        (folder / "a.dcm").write_bytes(b"no DICOM")
        result = run_cluster_queue(scan_sources(tmp_path / "scans"), work_in(tmp_path / "out"), options)
        assert list(result.failed) == ["input 1, in the order of their names"]
        shown = capfd.readouterr()
        assert PATIENT_NAME.lower() not in (caplog.text + shown.out + shown.err + str(result)).lower()

    def test_a_killed_command_resumes_and_loses_nothing(self, cluster, tmp_path):
        scans, out = write_scans(tmp_path / "scans", 30), tmp_path / "out"
        words = [sys.executable, "-c", DRIVER, scans, out, cluster.address, "0.3"]
        with subprocess.Popen(list(map(str, words))) as driver:
            while len(list(out.glob("s*/report.json"))) < 6:
                assert driver.poll() is None
                time.sleep(0.05)
            driver.send_signal(signal.SIGKILL)
        before = {path: path.stat().st_mtime_ns for path in out.glob("s*/report.json")}
        result = run_cluster_queue(scan_sources(scans), work_in(out), ClusterOptions(cluster.address, 2, 1))
        assert len(result.done) + len(result.skipped) == 30
        assert len(result.skipped) >= len(before) >= 6
        assert {path: path.stat().st_mtime_ns for path in before} == before
        locally(scans, tmp_path / "here")
        assert contents(out) == contents(tmp_path / "here")

    def test_another_command_on_the_same_folder_is_refused(self, options, tmp_path):
        scans, out = write_scans(tmp_path / "scans", 1), tmp_path / "out"
        out.mkdir()
        refused = pytest.raises(ValueError, match=r"^Another command with --engine ray uses .*/out. Wait until it ends")
        with held_alone(out / LOCK), refused:
            run_cluster_queue(scan_sources(scans), work_in(out), options)
        assert len(run_cluster_queue(scan_sources(scans), work_in(out), options).done) == 1

    def test_a_case_that_an_orphan_works_on_is_waited_for(self, options, tmp_path):
        """A worker on a node that was taken for lost still holds its case."""
        scans, out = write_scans(tmp_path / "scans", 4), tmp_path / "out"
        out.mkdir()
        held, ended = threading.Event(), threading.Event()

        def orphan():
            with held_alone(out / ".s001.lock"):
                held.set()
                while not ended.is_set():
                    time.sleep(0.1)
                time.sleep(1)

        thread = threading.Thread(target=orphan)
        thread.start()
        held.wait(60)
        watch = threading.Thread(target=set_when, args=(ended, out / "s003/report.json"), daemon=True)
        watch.start()
        result = run_cluster_queue(scan_sources(scans), work_in(out), options)
        thread.join()
        assert sorted(result.done) == ["s000", "s001", "s002", "s003"]
        assert result.done[-1] == "s001"

    @pytest.mark.slow
    def test_three_hundred_scans_survive_lost_nodes_and_a_killed_command(self, cluster, tmp_path):
        """A node killed three times, the command once, two poisonous scans; equal to the local result."""
        scans, out = write_scans(tmp_path / "scans", 300, kills=40, fails=200), tmp_path / "out"
        words = [sys.executable, "-c", DRIVER, scans, out, cluster.address, "0.2"]

        def finished():
            return len(list(out.glob("s*/report.json")))

        node, losses = add_node(cluster), 0
        for is_last in (False, True):
            with subprocess.Popen(list(map(str, words))) as driver:
                while driver.poll() is None:
                    time.sleep(0.1)
                    if finished() > 60 * (losses + 1) and losses < (1 if not is_last else 3):
                        cluster.remove_node(node, allow_graceful=False)
                        node, losses = add_node(cluster), losses + 1
                    if not is_last and finished() > 120:
                        driver.send_signal(signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
        assert losses == 3
        cases = {path.parent.name for path in out.glob("*/report.json")}
        assert len(cases) == 298
        locally(write_scans(tmp_path / "good", 300), tmp_path / "here")
        expected = {k: v for k, v in contents(tmp_path / "here").items() if k[:4] not in ("s040", "s200")}
        assert {k: v for k, v in contents(out).items() if k[:4] not in ("s040", "s200")} == expected


def test_a_node_that_sees_another_folder_does_not_fit(tmp_path):
    work = replace(work_in(tmp_path), word="one")
    (tmp_path / LOCK).write_text("another")
    with pytest.raises(ValueError, match=r"is another folder there. Choose an output folder that all nodes share"):
        work.load()
    (tmp_path / LOCK).write_text("one")
    assert callable(work.load())


def test_a_node_without_weights_or_with_others_does_not_fit(bundles, bare_bundles):
    arguments = {"bundles_dir": bundles}
    settings = Diagnosis(**arguments).all_settings()
    assert isinstance(NetworkFiles(arguments, settings).load(), Diagnosis)
    without = NetworkFiles({"bundles_dir": bare_bundles}, settings)
    with pytest.raises(ValueError, match=r"lesion network is missing there and \w{12} here.*the same weights"):
        without.load()
    others = NetworkFiles(arguments, {**settings, "classifier": "0123456789abcdef"})
    with pytest.raises(ValueError, match=r"^classifier is \w{12} there and 0123456789ab here"):
        others.load()


def test_a_full_disk_is_the_reason_of_the_case(tmp_path, monkeypatch):
    (source,) = scan_sources(write_scans(tmp_path / "scans", 1))
    (tmp_path / "out").mkdir()
    fill_disk(monkeypatch, "report.json")
    outcome = process_scan(source, tmp_path / "out", lambda _, folder: write_json(folder / "report.json", {}), {}, "1")
    assert outcome.reason.endswith("Free space, or choose another folder.")


def test_bytes_of_an_ended_worker_on_another_computer_are_removed_from_the_folder_of_a_case(tmp_path):
    scans, out = write_scans(tmp_path / "scans", 1), tmp_path / "out"
    left = out / "s000.incomplete" / ".partial-00000000-1-s000_lungs.nii.gz"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert locally(scans, out).done == ["s000"]
    assert json.loads((out / "s000/report.json").read_text())["case_id"] == "s000"
    assert not list(out.rglob(".partial*"))
    assert [path.name for path in out.iterdir()] == ["s000"]
