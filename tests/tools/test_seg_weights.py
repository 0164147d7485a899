import json
import subprocess
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser

from tests.study.tables.test_joined_scores import write_fold
from tools import seg_weights as tool


@pytest.fixture
def ran(monkeypatch):
    """Commands that would have run; each leaves what its step is to leave."""
    commands = []

    def run(command, **_):
        options = dict(zip(command[7::2], command[8::2], strict=True))
        commands.append(command)
        if command[4] == "training":
            for name in ("last.pt", "model.pt"):
                write(Path(options["--ckpt_dir"]) / name)
        else:
            folder = Path(options["--output_dir"])
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_fold(folder, {f"{folder.parent.name}": (0.5, 0.25, None)})
            write(folder / "summary.json")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def runs(tmp_path):
    for name, values in {"infections": [0, 1, 0], "lungs": [0, 1, 1]}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        mask = nibabel.Nifti1Image(np.array([[values]], np.uint8), np.eye(4))
        nibabel.save(mask, tmp_path / "runs" / name / "a.nii.gz")
    cases = [{"image": "images/a.nii.gz", "infection": "infections/a.nii.gz", "lung": "lungs/a.nii.gz"}]
    (tmp_path / "runs/datalist.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return tmp_path / "runs"


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def kinds(commands):
    return [(words[4], "no_attention.yaml" in words[6], "all_cases.yaml" in words[6]) for words in commands]


def test_folds_are_trained_and_scored_and_all_slices_trained_last(ran, runs, tmp_path, capsys):
    tool.seg_weights("slices", str(tmp_path / "out"), str(runs), folds=(1, 3))
    steps = [("training", True), ("training", True), ("training", False)]
    of_fold, of_all = ([(*step, on_all) for step in steps] for on_all in (False, True))
    fold = [*of_fold, ("evaluating", False, False)]
    assert kinds(ran) == [("training", True, False), *fold, *fold, *of_all]
    assert ["new_output.yaml" in words[6] for words in ran[:5]] == [False, True, False, False, False]
    starts = [words[words.index("--init_path") + 1] if "--init_path" in words else "" for words in ran[:4]]
    assert [Path(start).parent.name for start in starts] == ["", "pretraining", "m_a_128", "m_a_256"]
    assert "| ground glass | 0.500" in capsys.readouterr().out
    assert (tmp_path / "out/all/m/model.pt").is_file()
    (case,) = json.loads((tmp_path / "out/pretraining/datalist.json").read_text())["cases"]
    assert case["image"] == str(runs / "images/a.nii.gz")
    assert np.asarray(nibabel.load(case["label"]).dataobj).ravel().tolist() == [0, 1, 2]


def test_finished_steps_are_not_repeated(ran, tmp_path):
    tool.seg_weights("slices", str(tmp_path), folds=2)
    assert len(ran) == 3 + 1 + 3
    (tmp_path / "fold_2/m/last.pt").unlink()
    tool.seg_weights("slices", str(tmp_path), folds=2)
    assert kinds(ran[7:]) == [("training", False, False)]


def test_network_m_is_not_compiled_for_its_two_epochs(ran, tmp_path):
    tool.seg_weights("slices", str(tmp_path), folds=2, compile=True)
    assert ["--compile" in command for command in ran[:4]] == [True, True, False, False]


def test_a_dry_run_prints_the_commands_alone(ran, runs, tmp_path, capsys):
    tool.seg_weights("slices", str(tmp_path / "out"), str(runs), dry_run=True)
    assert ran == []
    assert not (tmp_path / "out").exists()
    assert len(capsys.readouterr().out.splitlines()) == 1 + 5 * 4 + 3


def test_jobs_run_side_by_side_and_share_the_cores(monkeypatch, ran, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(tool, "worker_environments", lambda jobs: [{"WORKER": str(job)} for job in range(jobs)])
    together, seen, one_by_one = threading.Barrier(2, timeout=30), set(), subprocess.run

    def run(command, **options):
        place = Path(dict(zip(command[7::2], command[8::2], strict=True)).get("--ckpt_dir", ""))
        if place.name == "m_a_128" and place.parent.name != "all":
            together.wait()
            seen.add(options["env"]["WORKER"])
        assert options["stdout"].name.endswith(".log")
        return one_by_one(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    tool.seg_weights("slices", str(tmp_path), folds=(0, 1), jobs=2)
    assert seen == {"0", "1"}
    assert len(ran) == 3 * 3 + 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_step_that_fails_ends_it(monkeypatch, tmp_path, jobs, caplog):
    monkeypatch.setattr(tool.Step, "command", lambda self: ["false"])
    with pytest.raises(subprocess.CalledProcessError):
        tool.seg_weights("slices", str(tmp_path), jobs=jobs)
    assert "Failed: " in caplog.text
    assert (".log" in caplog.text) == (jobs == 2)


def test_no_job_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 or more"):
        tool.seg_weights("slices", str(tmp_path), jobs=0)


def test_every_option_is_one_of_the_configs():
    start = Path("c/last.pt")
    chains = [tool.chain(Path("a"), Path("b"), block, start, {"compile": True}) for block in (0, tool.ALL)]
    for step in (tool.pretraining(start, {}), *chains[0], *chains[1]):
        parser = ConfigParser()
        parser.read_config([str(tool.BUNDLE / "configs" / name) for name in step.configs])
        for name in step.options:
            assert name in ("network_def#num_rounds", "loss#weight") or parser.get(name, "absent") != "absent", name
