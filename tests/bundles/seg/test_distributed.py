import json
from pathlib import Path

import pytest

from tests.bundles.conftest import TORCHRUN, scalars
from tests.bundles.seg.conftest import SMALL, config_files

FOLD = {"num_folds": 5, "fold": 2}
"""Five of 24 cases: two processes validate three and two of them."""

NETWORK = {**SMALL, "network_def#features": [8, 16], "network_def#attention": "none"}


@pytest.fixture(scope="module")
def without_groups(slices, tmp_path_factory) -> Path:
    cases = json.loads((slices / "datalist.json").read_text(encoding="utf-8"))["cases"]
    path = tmp_path_factory.mktemp("list") / "list.json"
    entries = [{key: str(slices / case[key]) for key in ("image", "label")} for case in cases]
    path.write_text(json.dumps({"cases": entries}), encoding="utf-8")
    return path


def test_two_processes_train_one_network(run_command, bundle, without_groups, tmp_path):
    models, output = tmp_path / "models", tmp_path / "output"
    done = run_command(
        "training", config_files("train.yaml", "multi_gpu_train.json"), TORCHRUN,
        **NETWORK, **FOLD, dataset_dir=without_groups, ckpt_dir=models, output_dir=output,
        epochs=2, learning_rate=0.01, batch_size=3, num_workers=0,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert {path.name for path in models.iterdir()} == {
        "model.pt", "split.json", "resume_checkpoint_epoch=1.pt", "resume_checkpoint_epoch=2.pt",
    }  # fmt: skip
    assert len(list(output.iterdir())) == 1
    steps, dice = zip(*scalars(output, "val_mean_dice"), strict=True)
    assert steps == (1, 2)
    assert (
        len(scalars(output, "train_loss")) == 2 * 19 * 6 // 2 // 3
    )  # 19 slices drawn 6 times, 3 a batch in each process
    folders = {"dataset_dir": without_groups, "ckpt_path": models / "model.pt", "output_dir": tmp_path / "eval"}
    bundle.run("evaluate.yaml", "evaluating", **NETWORK, **FOLD, **folders, overlay_slices=0)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert summary["cases"] == 5
    assert summary["dice"]["mean"] == pytest.approx(max(dice), abs=1e-5)
