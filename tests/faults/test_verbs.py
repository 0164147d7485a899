"""The verbs of the command line, when input, disk or user end them."""

import shutil

import numpy as np
import pytest
from custom_components.command_line.endings import ended_with_a_message
from custom_components.engines.root_cause import TRACEBACK_VARIABLE
from custom_components.phantom import dataset
from custom_components.study.plans import study_data

from tests.full_disk import fill_disk, left
from tests.study.small_data import write_scans

GRID = ("--shape", "[64, 60, 28]", "--spacing_mm", "[5.6, 6.0, 10.0]")
SLICES = ("phantom_slices", "--num_slices", "2", "--size", "[32, 33]")
SCANS = ("phantom_scans", "--num_scans", "4", "--num_folds", "2", *GRID)
DICOM = ("phantom_dicom", "--shape", "[32, 34, 4]", "--spacing_mm", "[11, 10, 70]")
NO_SPACE = "could not be written: No space left on device. Free space, or choose another folder."


@pytest.fixture
def runs(tmp_path):
    """A folder of slices as published."""
    folder = tmp_path / "runs"
    folder.mkdir()
    grey = np.full((4, 40, 41), 150, np.uint8)
    lung = np.zeros_like(grey)
    lung[:, 14:26, 14:27] = 1
    grey[lung == 1], grey[:, :4] = 60, 20
    np.savez(folder / "volume_0001.npz", ct=grey, lung=lung, infection=np.zeros_like(lung))
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("build_datalist", "nowhere"), "nowhere does not exist"),
        (("convert_jpg", "nowhere", "out"), "nowhere is not a folder. Give the folder of the JPEG images."),
        (("convert_covid20_slices", "nowhere", "out"), "nowhere does not exist"),
        (("phantom_slices", "out", "--num_slices", "0"), "num_slices is 0. Expected a whole number, 1 or more."),
        (("diagnose", "nowhere", "out"), "nowhere does not exist. Expected a NIfTI file"),
        (("study", "covid_cap_bundle", "nowhere", "out"), "nowhere does not exist"),
        (("score_table", "nowhere.json"), "nowhere.json does not exist. Give the summary.json that `evaluating` wrote"),
        (("score_table", "."), ". is a folder. Give the summary.json that `evaluating` wrote into its output_dir."),
        (("diagnosis_table", "nowhere.json"), "nowhere.json does not exist. Give the summary.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_input_ends_a_verb_with_one_message(command_line, tmp_path, monkeypatch, caplog, words, message):
    monkeypatch.chdir(tmp_path)
    assert command_line(*words) == 1
    assert message in caplog.records[-1].getMessage()
    assert caplog.records[-1].exc_info is None
    assert not [name for name in left(tmp_path) if not name.startswith("out/study.")]  # a study locks its folder first


def test_the_traceback_is_shown_when_it_is_asked_for(command_line, monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        command_line("diagnose", "nowhere", "out")


@pytest.mark.parametrize(
    "error", [ValueError("operands could not be broadcast"), KeyError("case_id"), TypeError("odd")]
)
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error)) as caught, ended_with_a_message():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("words", "pattern"),
    [(SLICES, "001.png"), (SCANS, "covid_000.nii.gz"), (DICOM, "IM0002.dcm")],
    ids=["slices", "scans", "dicom"],
)
def test_a_full_disk_leaves_nothing_of_a_phantom_and_names_its_folder(
    command_line, tmp_path, monkeypatch, caplog, words, pattern
):
    fill_disk(monkeypatch, pattern)
    verb, *options = words
    assert command_line(verb, tmp_path / "set", *options) == 1
    assert caplog.records[-1].getMessage() == f"{tmp_path / 'set'} {NO_SPACE}"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_of_a_conversion(command_line, runs, tmp_path, monkeypatch, caplog):
    fill_disk(monkeypatch, "datalist.json")
    assert command_line("convert_covid20_slices", runs, tmp_path / "set", "--num_folds", "1") == 1
    assert caplog.records[-1].getMessage() == f"{tmp_path / 'set'} {NO_SPACE}"
    assert left(tmp_path) == ["runs/volume_0001.npz"]


def test_a_full_disk_leaves_no_half_datalist(command_line, tmp_path, monkeypatch, caplog):
    data, target = write_scans(tmp_path / "data"), tmp_path / "new.json"
    rows = [f"{number:03d},{('covid', 'cap')[number % 2]}" for number in range(12)]
    (data / "labels.csv").write_text("\n".join(["case_id,label", *rows]), encoding="utf-8")
    measured = {"ratio": 0.1, "group": "covid_large"}
    monkeypatch.setattr("custom_components.datasets.datalist._measured", lambda case, _: {**case, **measured})
    before = left(tmp_path)
    fill_disk(monkeypatch, "new.json")
    assert command_line("build_datalist", data, "--output", target, "--num_folds", "2") == 1
    assert caplog.records[-1].getMessage() == f"{target} {NO_SPACE}"
    assert left(tmp_path) == before


def test_ctrl_c_ends_a_verb_with_status_130_and_leaves_nothing(command_line, tmp_path, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_write_png", interrupted)
    assert command_line(SLICES[0], tmp_path / "set", *SLICES[1:]) == 130
    assert caplog.messages[-1] == "Stopped. No partial files are left."
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanishes_ends_a_conversion_with_its_name(command_line, runs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("custom_components.datasets.covid20_slices._table", lambda _: shutil.rmtree(runs, True) or {})
    assert command_line("convert_covid20_slices", runs, tmp_path / "set", "--num_folds", "1") == 1
    assert "volume_0001.npz cannot be read: [Errno 2] No such file" in caplog.records[-1].getMessage()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanishes_ends_a_study_before_it_starts(command_line, tmp_path, monkeypatch, caplog):
    data, listed = write_scans(tmp_path / "data"), study_data.list_scans

    def list_and_lose(root):
        scans = listed(root)
        next(iter(sorted((data / "images").iterdir()))).unlink()
        return scans

    monkeypatch.setattr(study_data, "list_scans", list_and_lose)
    assert command_line("study", "covid_cap_bundle", data, tmp_path / "study") == 1
    message = caplog.records[-1].getMessage()
    assert message.endswith("No such file or directory. Check the path, and whether it was removed during the run.")
    assert str(data / "images") in message
