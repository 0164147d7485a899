"""Trainings of two processes, of both bundles: what each process writes, and what follows when one of them ends."""

import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import run

from tests.bundles.conftest import TORCHRUN, Bundle, as_text
from tests.bundles.small_runs import SmallRuns, Subject
from tests.bundles.test_killed_training import context, differences

DYING_RANK = Path(__file__).with_name("dying_rank.py")
DYING = {"_target_": "dying_rank.DyingRank", "how": "@how", "mark": "@mark", "network": "@network"}
# Between the end of one process and that of the other.
SECONDS = 60.0


@dataclass
class Pair:
    """Two processes that train together, without a launcher.

    Args:
        bundle: trains.
        folder: for weights and logs; each process has its own folders in it.
        options: overrides of the config.
    """

    bundle: Bundle
    folder: Path
    options: dict[str, Any]
    processes: list[Any] = field(default_factory=list, init=False)

    def start(self, **options: Any) -> None:
        files = self.bundle.config_files("train.yaml", "multi_gpu_train.json")
        if "how" in options:
            files.append(str(write_overlay(self.folder)))
        port = _free_port()
        for rank in (0, 1):
            own = self.folder / f"rank_{rank}"
            own.mkdir(parents=True)
            places = {"ckpt_dir": own / "models", "output_dir": own / "output"}
            given = {"bundle_root": self.bundle.folder, **self.bundle.small, **self.options, **places, **options}
            self.processes.append(context.Process(target=partial(_train, files, as_text(given), own, rank, port)))
        for process in self.processes:
            process.start()

    def ended(self, seconds: float = 300.0) -> list[int | None]:
        """Exit codes, when both have ended; None for one that had to be killed."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(end - time.monotonic(), 0))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes

    def log(self, rank: int) -> str:
        return (self.folder / f"rank_{rank}" / "log.txt").read_text(encoding="utf-8")

    def written(self, rank: int) -> set[str]:
        own = self.folder / f"rank_{rank}"
        return {path.relative_to(own).parts[0] for path in own.rglob("*") if path.is_file()}


def write_overlay(folder: Path) -> Path:
    """Put the dying process's module and its config into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DYING_RANK, folder)
    (folder / "dying.json").write_text(json.dumps({"+train#handlers": [DYING]}), encoding="utf-8")
    return folder / "dying.json"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _train(files: list[str], given: dict[str, Any], folder: Path, rank: int, port: int) -> None:
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        logging.basicConfig(level=logging.INFO, stream=sys.stderr)
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
        os.environ.update({name: str(number) for name, number in numbers.items()}, MASTER_ADDR="127.0.0.1")
        sys.path.insert(0, str(folder.parent))
        torch.set_num_threads(1)
        try:
            run(run_id="training", config_file=files, logging_file=False, **given)
        except Exception:
            sys.excepthook(*sys.exc_info())  # as at the end of a program
            raise SystemExit(1) from None


class TestTwoProcesses(SmallRuns):
    @pytest.fixture
    def options(self, subject: Subject, data: Path, tmp_path: Path) -> dict[str, Any]:
        """Of a training with two iterations or more an epoch in each process."""
        own = {"cache_dir": tmp_path / "cache"} if "cache_dir" in subject.training else {}
        return {**subject.training, "batch_size": 1, "dataset_dir": data, **own}

    @pytest.fixture
    def pair(self, subject: Subject, options: dict[str, Any], tmp_path: Path) -> Pair:
        return Pair(subject.bundle, tmp_path / "pair", options)

    def test_the_first_process_alone_writes(self, pair):
        pair.start(epochs=1)
        assert pair.ended() == [0, 0], pair.log(0) + pair.log(1)
        assert pair.written(0) == {"log.txt", "models", "output"}
        assert pair.written(1) == {"log.txt"}

    @pytest.mark.parametrize("how", ["killed", "error", "nan"])
    def test_when_one_process_ends_the_other_ends_with_its_error(self, pair, how):
        pair.start(how=how, mark=pair.folder / "mark", epochs=50)
        first, second = pair.ended()
        since = time.time() - (pair.folder / "mark").stat().st_mtime
        assert first == 1, pair.log(0)[-3000:]
        assert second == (-signal.SIGKILL if how == "killed" else 1), pair.log(1)[-3000:]
        assert since < SECONDS
        assert "Process 0 of 2: Another process of this training ended" in pair.log(0).splitlines()[-1]
        reasons = {"error": "Case 012: label has value 7.", "nan": "Loss is nan in epoch 2"}
        assert how == "killed" or f"Process 1 of 2: {reasons[how]}" in pair.log(1)
        assert (pair.folder / "rank_0" / "models" / "resume_checkpoint_epoch=1.pt").is_file()

    @pytest.mark.slow
    def test_a_job_that_starts_again_after_a_killed_process_ends_in_the_same_weights(
        self, subject, options, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # as docs/faults.md says
        overlay = write_overlay(tmp_path)
        configs = subject.bundle.config_files("train.yaml", "multi_gpu_train.json")
        checkpoints = []
        for how, launcher in (("none", TORCHRUN), ("killed", (*TORCHRUN, "--max_restarts", "1"))):
            mark, models = tmp_path / how, tmp_path / f"{how}_models"
            if how == "none":
                mark.touch()
            folders = {"ckpt_dir": models, "output_dir": tmp_path / f"{how}_output"}
            given = {
                **subject.bundle.small,
                **options,
                **folders,
                "epochs": 3,
                "resume": True,
                "how": how,
                "mark": mark,
            }
            done = subject.bundle.command(tmp_path, "training", [*configs, str(overlay)], launcher, **given)
            assert done.returncode == 0, done.stdout[-5000:]
            assert ("Resumed from" in done.stdout) == (how == "killed")
            checkpoints.append(torch.load(models / "resume_checkpoint_epoch=3.pt", weights_only=True))
        assert differences(*checkpoints) == []
