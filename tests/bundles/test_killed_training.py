"""Trainings of both bundles that are killed and resumed, compared with one that is not."""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import run

from tests.bundles.conftest import Bundle, as_text, epochs_kept, scalars
from tests.bundles.small_runs import SmallRuns, Subject

# Processes that have imported everything already, and computed nothing.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.bundles.test_killed_training"])


@dataclass
class Training:
    """One training of a bundle, in a folder of its own.

    Args:
        bundle: trains.
        config: its config.
        folder: for weights, logs and what is printed.
        options: overrides of the config.
    """

    bundle: Bundle
    config: str
    folder: Path
    options: dict[str, Any]
    seconds: float = field(default=0.0, init=False)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self, die_in_save: int = 0) -> Any:
        """Begin or resume; kill itself in the middle of the n-th file it writes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        places = {"ckpt_dir": self.models, "output_dir": self.folder / "output", "resume": True}
        given = {"bundle_root": self.bundle.folder, **self.bundle.small, **self.options, **places}
        target = partial(_train, self.bundle.config_files(self.config), as_text(given), self.folder, die_in_save)
        process = context.Process(target=target)
        process.start()
        return process

    def finish(self) -> None:
        """Train to the end."""
        begin = time.monotonic()
        process = self.start()
        process.join()
        self.seconds = time.monotonic() - begin
        assert process.exitcode == 0, (self.folder / "log.txt").read_text(encoding="utf-8")[-3000:]

    def killed_after(self, seconds: float) -> bool:
        """Train so long and kill; whether it was still running."""
        process = self.start()
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    def killed_in_save(self, number: int) -> None:
        """Train until the n-th file, and die while it is half written."""
        process = self.start(die_in_save=number)
        process.join()
        assert process.exitcode == -signal.SIGKILL, (self.folder / "log.txt").read_text(encoding="utf-8")[-3000:]

    def state(self) -> dict[str, Any]:
        """All that the training leaves."""
        epoch = max(epochs_kept(self.models))
        checkpoint = torch.load(self.models / f"resume_checkpoint_epoch={epoch}.pt", weights_only=True)
        best = torch.load(self.models / "model.pt", weights_only=True)
        names = sorted(path.name for path in self.models.iterdir())
        return {"checkpoint": checkpoint, "best": best, "files": names}

    def scores(self, tag: str) -> dict[int, float]:
        """A score by epoch; what a killed process had not written out yet is missing."""
        return dict(scalars(self.folder / "output", tag))


def _train(files: list[str], given: dict[str, Any], folder: Path, die_in_save: int) -> None:
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        os.chdir(folder)
        torch.set_num_threads(1)
        multiprocessing.set_start_method("fork", force=True)  # of loading processes, as on the command line
        if die_in_save:
            _die_in_save(die_in_save)
        run(run_id="training", config_file=files, logging_file=False, **given)


def _die_in_save(number: int) -> None:
    save, calls = torch.save, []

    def half(state: Any, path: Path, *args: Any, **options: Any) -> None:
        save(state, path, *args, **options)
        if "models" in Path(path).parts:  # the cache of scans is written by the same function
            calls.append(path)
        if len(calls) == number:
            os.truncate(path, Path(path).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two states are not the same to the last bit."""
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return [f"{name}: keys {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [text for key in one for text in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{name}: {one} and {other}"]
        pairs = zip(one, other, strict=True)
        return [text for place, pair in enumerate(pairs) for text in differences(*pair, f"{name}/{place}")]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [f"{name}: {one} and {other}"]


class TestKilledTraining(SmallRuns):
    @pytest.fixture(scope="class")
    def options(self, subject: Subject, written: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        """Of a training with a process that loads."""
        own = {"lr_step": 2, "cache_dir": tmp_path_factory.mktemp("cache")} if "cache_dir" in subject.training else {}
        return {**subject.training, "epochs": 3, "num_workers": 1, "dataset_dir": written, **own}

    @pytest.fixture(scope="class")
    def unbroken(self, subject: Subject, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Training:
        training = Training(subject.bundle, "train.yaml", tmp_path_factory.mktemp("unbroken"), options)
        training.finish()
        return training

    @pytest.fixture
    def training(self, subject: Subject, options: dict[str, Any], tmp_path: Path) -> Training:
        return Training(subject.bundle, "train.yaml", tmp_path, options)

    @pytest.fixture
    def check_resumed(self, subject: Subject, unbroken: Training, training: Training) -> Callable[[], None]:
        """Resume a training, and find the weights, files and scores of the unbroken one."""

        def call() -> None:
            training.finish()
            assert differences(training.state(), unbroken.state()) == []
            whole = unbroken.scores(subject.score)
            assert sorted(whole) == list(range(1, unbroken.options["epochs"] + 1))
            assert all(whole[epoch] == value for epoch, value in training.scores(subject.score).items())

        return call

    @pytest.mark.parametrize("number", [4, pytest.param(1, marks=pytest.mark.slow)])
    def test_killed_while_it_writes_a_checkpoint_it_ends_in_the_same_weights(self, training, check_resumed, number):
        training.killed_in_save(number)
        assert [path.name for path in training.models.glob(".partial-*")]
        training.options = {**training.options, "num_workers": 0}  # their number changes nothing
        check_resumed()

    def test_a_finished_training_continues_with_more_epochs_as_one_that_had_them_from_the_start(
        self, training, check_resumed
    ):
        training.options = {**training.options, "epochs": 2}
        training.finish()
        training.options = {**training.options, "epochs": 3}
        check_resumed()

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(20))
    def test_killed_at_a_random_moment_it_ends_in_the_same_weights(self, unbroken, training, check_resumed, seed):
        killed = training.killed_after(random.Random(seed).uniform(0.0, unbroken.seconds))
        assert killed or (training.models / "model.pt").is_file()
        check_resumed()
