import json
from pathlib import Path

import pytest
from custom_components.data.size_balanced_sampler import SizeBalancedSampler
from custom_components.datalists.scans import list_scans

from tests.bundles.cap.conftest import GOLDEN, NO_WORKERS, SMALL, config_files, datalist_of
from tests.bundles.conftest import TORCHRUN, rows_of, scalars

VALIDATION = 11
"""An odd number of scans: one process validates six, the other five."""


@pytest.fixture(scope="module")
def odd(scans, tmp_path_factory):
    """The scans, one of those that validate left out."""
    folder = tmp_path_factory.mktemp("list")
    cases = [case for case in datalist_of(scans) if case["case_id"] != "covid_001"]
    places = [{**case, **{key: str(scans / case[key]) for key in ("image", "lung", "infection")}} for case in cases]
    (folder / "list.json").write_text(json.dumps({"cases": places}), encoding="utf-8")
    return folder / "list.json"


SHARES = """
+imports: [$import json, $import pathlib, $import exit_threads]
share: $json.dumps([list(@train#sampler), list(@validate#dataloader#sampler)])
+training: ["$pathlib.Path(@shares, f'{dist.get_rank()}.json').write_text(@share)"]
"""
"""Lets each process write which scans it trains on in the last epoch, and which it validates."""

EXIT_THREADS = """
import atexit, os, pathlib

def write():  # registered before all others, runs after them
    names = [path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    pathlib.Path(f"threads_{os.environ['RANK']}.txt").write_text(" ".join(names))

atexit.register(write)
"""
"""Lets each process write which threads are left when its interpreter ends."""


def check_shares(odd: Path, first: list[list[int]], second: list[list[int]]) -> None:
    """The two processes share one draw, and one validates what the other does not."""
    training = [scan for scan in list_scans(odd) if scan["fold"] != GOLDEN["fold"]]
    one = SizeBalancedSampler([scan["label"] for scan in training], [scan["ratio"] for scan in training])
    one.set_epoch(2)
    draw = list(one)
    assert (first[0], second[0]) == (draw[::2], draw[1::2])
    assert sorted(first[1] + second[1]) == list(range(VALIDATION))


def test_two_processes_train_one_size_balanced_branch(run_command, bundle, odd, cache_dir, tmp_path):
    """With names that Fire would take for a number and a list: the command line is then run a second time."""
    models, output = tmp_path / "a,b", tmp_path / "1e3"
    (tmp_path / "shares.yaml").write_text(SHARES, encoding="utf-8")
    (tmp_path / "exit_threads.py").write_text(EXIT_THREADS, encoding="utf-8")
    configs = config_files("train.yaml", "size_balanced.yaml", "multi_gpu_train.json")
    data = {"dataset_dir": odd, "cache_dir": cache_dir}
    changes = {"epochs": 2, "batch_size": 2}
    places = {"ckpt_dir": "a,b", "output_dir": "1e3", "shares": tmp_path}
    files = [*configs, str(tmp_path / "shares.yaml")]
    done = run_command("training", files, TORCHRUN, **{**SMALL, **GOLDEN, **data, **changes, **places})
    assert done.returncode == 0, done.stdout
    assert not [
        name for rank in (0, 1) for name in (tmp_path / f"threads_{rank}.txt").read_text().split() if "gloo" in name
    ]
    check_shares(odd, *(json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)))
    assert {path.name for path in models.iterdir()} == {
        "model.pt", "model.json", "split.json", "resume_checkpoint_epoch=1.pt", "resume_checkpoint_epoch=2.pt",
    }  # fmt: skip
    assert len(list(output.iterdir())) == 1
    steps, auc = zip(*scalars(output, "val_auc"), strict=True)
    assert steps == (1, 2)
    assert len(scalars(output, "train_loss")) == 2 * 20 // 2 // 2  # 20 scans drawn, 2 a batch in each process
    places = {"ckpt_path": models / "model.pt", "output_dir": tmp_path / "eval", "fold": GOLDEN["fold"]}
    bundle.run("evaluate.yaml", "evaluating", **NO_WORKERS, **data, **places)
    assert len(rows_of(tmp_path / "eval" / "per_case.csv")) == VALIDATION
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert summary["overall"]["auc"] == pytest.approx(max(auc), abs=1e-5)
