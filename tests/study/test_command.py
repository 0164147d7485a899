import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from custom_components.study import command
from custom_components.study.results.study_results import FailedRun
from custom_components.study.runs.runner import Outcome

from tests.study.small_data import write_scans, write_slices


@pytest.fixture
def run(command_line):
    return partial(command_line, "study")


@pytest.fixture
def conducted(monkeypatch):
    """What the verb asks to be conducted; nothing is."""
    calls: list = []

    def conduct(study, runner, settings):
        calls.append((study, runner, settings))
        return Outcome({"a": 1.0}, ["a"], getattr(conduct, "failed", []))

    monkeypatch.setattr(command, "conduct", conduct)
    calls.append(conduct)
    return calls


def test_the_options_of_the_command_line_reach_the_study(run, conducted, tmp_path):
    data, test = write_scans(tmp_path / "1.10"), write_scans(tmp_path / "test", 1, "t")
    status = run(
        "covid_cap_bundle", "--dataset_dir", data, "--output_dir", tmp_path / "2.10", "--test_dir", test,
        "--protocol", "paper", "--systems", "attention_us,attention_ss", "--workers", "2", "--num_panels", "3",
        "--overrides", "{'epochs': 3, 'grid': [24, 56, 48], 'network_def#alpha': 50}", "--resume_runs",
    )  # fmt: skip
    assert status == 0
    study, runner, settings = conducted[1]
    assert study.overrides == {"epochs": 3, "grid": [24, 56, 48], "network_def#alpha": 50} == settings["overrides"]
    assert (study.protocol, study.systems) == ("paper", ("attention_us", "attention_ss"))
    assert (study.data.root, study.test.root, study.folder) == (data, test, tmp_path / "2.10")
    assert (len(runner.workers), runner.resume_runs, runner.keep_checkpoints, study.num_panels) == (2, True, False, 3)


def test_a_seg_study_is_planned_from_positional_arguments(run, conducted, tmp_path):
    data = write_slices(tmp_path / "set")
    words = ("--num_folds", "3", "--networks", "unet", "--protocol", "group")
    assert run("covid_seg_bundle", data, tmp_path / "study", *words) == 0
    assert len(conducted[1][0].runs()) == 12


def test_a_dry_run_lists_the_runs_and_writes_nothing(run, tmp_path, capsys):
    data = write_slices(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    assert run("covid_seg_bundle", data, tmp_path / "study", "--num_folds", "3", "--networks", "m", "--dry_run") == 0
    told = capsys.readouterr().out
    assert "| group/m/augmented/fold_0/train | train.yaml, recipes/last_weights.yaml |" in told
    assert "24 runs, 0 finished; time left: not known yet." in told
    assert sorted(tmp_path.rglob("*")) == before


def test_failed_runs_are_named_and_give_status_1(run, conducted, tmp_path, caplog):
    conducted[0].failed = [FailedRun("m/fold_0/train", "Case 012: label has value 7.")]
    assert run("covid_seg_bundle", write_slices(tmp_path / "set"), tmp_path / "study", "--num_folds", "3") == 1
    assert "1 runs did not finish" in caplog.text
    assert "m/fold_0/train: Case 012: label has value 7." in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_study_with_status_130_and_a_hint_how_to_continue(run, monkeypatch, tmp_path, caplog, number):
    monkeypatch.setattr(command, "conduct", lambda *_: os.kill(os.getpid(), number))
    earlier = signal.getsignal(signal.SIGTERM)
    assert run("covid_seg_bundle", write_slices(tmp_path / "set"), tmp_path / "study", "--num_folds", "3") == 130
    assert "run the same command again to continue" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is earlier


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--dry_run", "yes"), 2, "dry_run is 'yes'. Expected True or False"),
        (("--num_panels", "2"), 1, "Option num_panels is not supported for a study of covid_seg_bundle"),
        (("--num_folds", "1"), 1, "num_folds is 1. Expected a whole number, 2 or more"),
        (("--workers", "0"), 1, "workers is 0. Expected a whole number, 1 or more"),
        (("--num_folds", "3a"), 2, "num_folds is '3a'. Expected a whole number"),
    ],
    ids=str,
)
def test_a_wrong_option_is_an_error_before_anything_is_written(run, tmp_path, caplog, words, status, message):
    data = write_slices(tmp_path / "set")
    assert run("covid_seg_bundle", data, tmp_path / "study", *words) == status
    assert message in caplog.text
    assert not (tmp_path / "study").exists()


def test_a_folder_of_other_files_is_refused(run, tmp_path, caplog):
    data, folder = write_slices(tmp_path / "set"), tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").touch()
    assert run("covid_seg_bundle", data, folder, "--num_folds", "3") == 1
    assert "contains files that are not a study" in caplog.text
    assert [path.name for path in folder.iterdir()] == ["chapter.txt"]


def test_the_package_works_without_the_libraries_of_the_study():
    hide = "import sys; sys.modules.update(dict.fromkeys(('pandas', 'statsmodels')))"
    code = f"{hide}; import custom_components, custom_components.__main__"
    subprocess.run([sys.executable, "-c", code], check=True)
    sources = Path(command.__file__).parents[1].rglob("*.py")
    starts = tuple(f"{word} {name}" for word in ("from", "import") for name in ("custom_components.study", "pandas"))
    lines = {
        path: path.read_text(encoding="utf-8").splitlines()
        for path in sources
        if not {"study", "federated"} & {*path.parts}
    }
    assert len(lines) > 50
    assert [path.name for path, own in lines.items() if any(line.startswith(starts) for line in own)] == []
