"""What goes wrong on the way: disks, files and processes that fail while a bundle is at work."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.handlers.case_files import INCOMPLETE

from tests.bundles.conftest import Bundle, digests
from tests.full_disk import fill_disk, left

GONE = r"does not exist. Check the path or the datalist."
KILLED = "A data loading process was killed. The usual cause is too little memory: lower --num_workers"
FULL = "No space left on device. Free space, or choose another folder."
NO_SPACE = "Free space, or choose another folder."


class Faults:
    """What holds in both bundles.

    A subclass names the bundle, what lists its cases, what its training reads them through in a process that loads, a
    file of an evaluation, and how the report of an inferred case ends; its fixtures are ``data``, a copy of cases to
    spoil, and ``training``, ``evaluation`` and ``inference``, the overrides of each.
    """

    bundle: Bundle
    lister: str
    loaded_by: str
    scored: str
    report: str

    @pytest.fixture
    def places(self, tmp_path: Path, data: Path) -> dict[str, Path]:
        return {"dataset_dir": data, "output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models"}

    @pytest.fixture(scope="class")
    def weights(self, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
        """Random weights of a config's network."""

        def call(config: str) -> Path:
            path = tmp_path_factory.mktemp("weights") / "model.pt"
            parser = self.bundle.parser_of(config)
            parser.update({"bundle_root": str(self.bundle.folder), **self.bundle.small})
            torch.save(parser.get_parsed_content("network_def").state_dict(), path)
            return path

        return call

    @pytest.fixture
    def fails(self, places: dict[str, Path]) -> Callable[..., str]:
        """Run what fails; what its last line says."""

        def call(config: str, run_id: str, **options: Any) -> str:
            with pytest.raises((RuntimeError, OSError, ValueError)) as caught:
                self.bundle.run(config, run_id, **{**places, **options})
            return root_cause(caught.value)

        return call

    @pytest.fixture
    def vanishing(self, monkeypatch, data: Path) -> Callable[[], str]:
        """Let the image of one case be removed when the cases are listed; the case's name."""

        def call() -> str:
            module, name = self.lister.rsplit(".", 1)
            lister = getattr(__import__(module), name)

            def list_and_lose(*args: Any, **options: Any) -> Any:
                cases = lister(*args, **options)
                Path(cases[1]["image"]).unlink(missing_ok=True)
                return cases

            monkeypatch.setattr(self.lister, list_and_lose)
            return sorted(path.name.split(".")[0] for path in (data / "images").iterdir())[1]

        return call

    @pytest.mark.parametrize("name", ["resume_checkpoint_epoch=1.pt", "split.json"])
    def test_a_full_disk_ends_a_training_with_the_files_name(self, fails, training, places, monkeypatch, name):
        fill_disk(monkeypatch, name)
        message = fails("train.yaml", "training", **training)
        assert message.startswith(f"{places['ckpt_dir'] / name} could not be written: ")
        assert message.endswith(NO_SPACE)
        assert set(left(places["ckpt_dir"])) <= {"split.json", "model.pt", "model.json"} - {name}

    def test_a_full_disk_ends_an_evaluation_with_the_files_name(self, fails, evaluation, places, monkeypatch):
        fill_disk(monkeypatch, self.scored)
        message = fails("evaluate.yaml", "evaluating", **evaluation)
        assert message.startswith(
            f"{places['output_dir'] / self.scored} could not be written: No space left on device."
        )
        assert not [name for name in left(places["output_dir"]) if name == self.scored or ".partial" in name]

    def test_a_full_disk_fails_a_case_of_an_inference_and_leaves_nothing_of_the_file(
        self, fails, inference, places, monkeypatch
    ):
        first = sorted((places["dataset_dir"] / "images").iterdir())[0].name.split(".")[0]
        fill_disk(monkeypatch, f"{first}_*")
        message = fails("inference.json", "run", **inference)
        assert "cases failed, the results of the others are written:" in message
        assert f"\n  {first}: {places['output_dir'] / first}" in message
        assert message.endswith(NO_SPACE)
        written = left(places["output_dir"])
        assert written
        assert not [name for name in written if ".partial" in name or f"{first}_" in name]

    def test_a_full_disk_for_one_file_of_an_inference_leaves_the_others_and_marks_the_case(
        self, fails, inference, places, monkeypatch
    ):
        first = sorted((places["dataset_dir"] / "images").iterdir())[0].name.split(".")[0]
        self.bundle.run("inference.json", "run", **places, **inference)
        folder = places["output_dir"] / first
        whole = left(folder)
        assert INCOMPLETE not in whole
        for name in whole:
            shutil.rmtree(folder)
            with monkeypatch.context() as patch:
                fill_disk(patch, name)
                message = fails("inference.json", "run", **inference)
            assert message.endswith(f"\n  {first}: {folder / name} could not be written: {FULL}")
            is_report = name.endswith(self.report)
            assert left(folder) == sorted({*whole, *([] if is_report else [INCOMPLETE])} - {name})
        self.bundle.run("inference.json", "run", **places, **inference)
        assert left(folder) == whole

    def test_a_file_that_vanishes_ends_a_training_with_its_case(self, fails, training, vanishing, places):
        case = vanishing()
        message = fails("train.yaml", "training", **training)
        assert message.startswith(f"Case {case}: ")
        assert message.endswith(GONE)
        assert not list(places["ckpt_dir"].glob("*.pt"))

    def test_a_file_that_vanishes_ends_an_evaluation_with_its_case(self, fails, evaluation, vanishing):
        case = vanishing()
        message = fails("evaluate.yaml", "evaluating", **evaluation)
        assert message.startswith(f"Case {case}: ")
        assert message.endswith(GONE)

    def test_a_file_that_vanishes_fails_one_case_of_an_inference_alone(self, fails, inference, vanishing, places):
        case = vanishing()
        message = fails("inference.json", "run", **inference)
        assert "1 of " in message
        assert "the others are written" in message
        assert f"\n  {case}: " in message
        assert message.endswith(GONE)
        assert len([path for path in places["output_dir"].iterdir() if path.is_dir()]) > 0

    def test_a_killed_process_that_loads_ends_a_training(self, fails, training, monkeypatch, places):
        module, name, method = self.loaded_by.rsplit(".", 2)
        kind = getattr(__import__(module, fromlist=[name]), name)
        read = getattr(kind, method)

        def killed(*args: Any) -> Any:
            if torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return read(*args)

        monkeypatch.setattr(kind, method, killed)
        assert fails("train.yaml", "training", **{**training, "num_workers": 1}).startswith(KILLED)
        assert left(places["ckpt_dir"]) == ["split.json"]

    def test_ctrl_c_in_the_middle_of_a_checkpoint_leaves_the_one_before(self, training, places, monkeypatch):
        save, kept = torch.save, SimpleNamespace()

        def interrupted(state: Any, path: Path) -> None:
            save(state, path)
            if path.name.endswith("resume_checkpoint_epoch=2.pt"):
                os.truncate(path, path.stat().st_size // 2)
                kept.before = {name: hash_ for name, hash_ in digests(places["ckpt_dir"]).items() if name[0] != "."}
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.bundle.run("train.yaml", "training", **{**places, **training, "epochs": 2})
        assert digests(places["ckpt_dir"]) == kept.before
        assert "resume_checkpoint_epoch=1.pt" in kept.before

    def test_ctrl_c_in_the_middle_of_a_map_leaves_no_half_one(self, inference, places, monkeypatch):
        save = nibabel.save

        def interrupted(image: Any, path: Path) -> None:
            save(image, path)
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(nibabel, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.bundle.run("inference.json", "run", **{**places, **inference})
        assert left(places["output_dir"]) == []
