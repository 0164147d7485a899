"""Disks, files and processes that fail while a bundle is at work."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import pytest
import torch
from custom_components.handlers.case_files import INCOMPLETE

from tests.bundles.conftest import digests
from tests.bundles.small_runs import SmallRuns, Subject
from tests.full_disk import fill_disk, left

GONE = "does not exist. Check the path or the datalist."
KILLED = "A data loading process was killed. The usual cause is too little memory: lower --num_workers"
FULL = "No space left on device. Free space, or choose another folder."
NO_SPACE = "Free space, or choose another folder."


class TestFaults(SmallRuns):
    @pytest.fixture
    def first(self, data: Path) -> Path:
        """Image of the first case."""
        return min((data / "images").iterdir())

    @pytest.fixture
    def vanishing(self, subject: Subject, case: str, monkeypatch) -> str:
        """The case whose image is removed when the cases are listed."""
        module, name = subject.lister.rsplit(".", 1)
        lister = getattr(__import__(module), name)

        def list_and_lose(*args: Any, **options: Any) -> Any:
            cases = lister(*args, **options)
            (image,) = (one["image"] for one in cases if Path(one["image"]).name.startswith(case))
            Path(image).unlink(missing_ok=True)
            return cases

        monkeypatch.setattr(subject.lister, list_and_lose)
        return case

    @pytest.mark.parametrize("name", ["resume_checkpoint_epoch=1.pt", "split.json"])
    def test_a_full_disk_ends_a_training_with_the_files_name(self, fails, places, monkeypatch, name):
        fill_disk(monkeypatch, name)
        message = fails("train.yaml")
        assert message.startswith(f"{places['ckpt_dir'] / name} could not be written: ")
        assert message.endswith(NO_SPACE)
        assert set(left(places["ckpt_dir"])) <= {"split.json", "model.pt", "model.json"} - {name}

    def test_a_full_disk_of_the_cache_ends_a_training(self, subject, fails, tmp_path, monkeypatch):
        if "cache_dir" not in subject.training:
            pytest.skip("this bundle caches in memory")
        fill_disk(monkeypatch, "????????????????????????????????.pt")
        message = fails("train.yaml", cache_dir=tmp_path / "cache")
        assert message.startswith(str(tmp_path / "cache"))
        assert message.endswith(NO_SPACE)
        assert left(tmp_path / "cache") == []

    def test_a_full_disk_ends_an_evaluation_with_the_files_name(self, fails, places, monkeypatch):
        fill_disk(monkeypatch, "summary.json")
        message = fails("evaluate.yaml")
        assert message.startswith(
            f"{places['output_dir'] / 'summary.json'} could not be written: No space left on device."
        )
        assert not [name for name in left(places["output_dir"]) if name == "summary.json" or ".partial" in name]

    def test_a_full_disk_fails_a_case_of_an_inference_and_leaves_nothing_of_the_file(
        self, fails, case, places, monkeypatch
    ):
        fill_disk(monkeypatch, f"{case}_*")
        message = fails("inference.json")
        assert "cases failed, the results of the others are written:" in message
        assert f"\n  {case}: {places['output_dir'] / case}" in message
        assert message.endswith(NO_SPACE)
        written = left(places["output_dir"])
        assert written
        assert not [name for name in written if ".partial" in name or f"{case}_" in name]

    def test_a_full_disk_for_one_file_of_an_inference_leaves_the_others_and_marks_the_case(
        self, subject, run, fails, first, places, monkeypatch
    ):
        case = first.name.split(".")[0]
        folder = places["output_dir"] / case
        run("inference.json", dataset_dir=first)
        whole = left(folder)
        assert INCOMPLETE not in whole
        for name in whole:
            shutil.rmtree(folder)
            with monkeypatch.context() as patch:
                fill_disk(patch, name)
                message = fails("inference.json", dataset_dir=first)
            assert message.endswith(f"\n  {case}: {folder / name} could not be written: {FULL}")
            is_report = name.endswith(subject.report)
            assert left(folder) == sorted({*whole, *([] if is_report else [INCOMPLETE])} - {name})
        run("inference.json", dataset_dir=first)
        assert left(folder) == whole

    @pytest.mark.parametrize("config", ["train.yaml", "evaluate.yaml"])
    def test_a_file_that_vanishes_ends_a_training_or_evaluation_with_its_case(self, fails, vanishing, places, config):
        message = fails(config)
        assert message.startswith(f"Case {vanishing}: ")
        assert message.endswith(GONE)
        assert not list(places["ckpt_dir"].glob("*.pt"))

    def test_a_file_that_vanishes_fails_one_case_of_an_inference_alone(self, fails, vanishing, places):
        message = fails("inference.json")
        assert "1 of " in message
        assert "the others are written" in message
        assert f"\n  {vanishing}: " in message
        assert message.endswith(GONE)
        assert len([path for path in places["output_dir"].iterdir() if path.is_dir()]) > 0

    def test_a_killed_process_that_loads_ends_a_training(self, subject, fails, monkeypatch, places):
        module, name, method = subject.loaded_by.rsplit(".", 2)
        kind = getattr(__import__(module, fromlist=[name]), name)
        read = getattr(kind, method)

        def killed(*args: Any) -> Any:
            if torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return read(*args)

        monkeypatch.setattr(kind, method, killed)
        assert fails("train.yaml", num_workers=1).startswith(KILLED)
        assert left(places["ckpt_dir"]) == ["split.json"]

    def test_ctrl_c_in_the_middle_of_a_checkpoint_leaves_the_one_before(self, run, places, monkeypatch):
        save, kept = torch.save, SimpleNamespace()

        def interrupted(state: Any, path: Path) -> None:
            save(state, path)
            if path.name.endswith("resume_checkpoint_epoch=2.pt"):
                os.truncate(path, path.stat().st_size // 2)
                kept.before = {name: hash_ for name, hash_ in digests(places["ckpt_dir"]).items() if name[0] != "."}
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("train.yaml", epochs=2)
        assert digests(places["ckpt_dir"]) == kept.before
        assert "resume_checkpoint_epoch=1.pt" in kept.before

    def test_ctrl_c_in_the_middle_of_a_map_leaves_no_half_one(self, run, places, monkeypatch):
        save = nibabel.save

        def interrupted(image: Any, path: Path) -> None:
            save(image, path)
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(nibabel, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("inference.json")
        assert left(places["output_dir"]) == []
