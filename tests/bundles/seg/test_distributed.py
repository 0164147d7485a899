import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from custom_components import ResidualAttentionUNet
from custom_components.weights.checkpoints import latest_checkpoint

from tests.bundles.conftest import TORCHRUN, scalars
from tests.bundles.seg.conftest import SMALL, config_files

FOLD = {"num_folds": 5, "fold": 2}
"""Five of 24 cases: two processes validate three and two of them."""

NETWORK = {**SMALL, "network_def#features": [8, 16], "network_def#attention": "none"}


TOLERANCE = 0.02
"""Of the way that the weights went. Kernels of another CPU round otherwise, which three steps multiply to about 0.001
of it; gradients that are summed, or those of one process alone, take another way altogether (0.5 or more)."""


@pytest.fixture(scope="module")
def without_groups(slices, tmp_path_factory) -> Path:
    cases = json.loads((slices / "datalist.json").read_text(encoding="utf-8"))["cases"]
    path = tmp_path_factory.mktemp("list") / "list.json"
    entries = [{key: str(slices / case[key]) for key in ("image", "label")} for case in cases]
    path.write_text(json.dumps({"cases": entries}), encoding="utf-8")
    return path


@pytest.mark.slow  # the next test also trains in two processes
def test_two_processes_train_one_network(run_command, bundle, without_groups, tmp_path):
    """With names that Fire would take for a number and a list: the command line is then run a second time."""
    models, output = tmp_path / "a,b", tmp_path / "1e3"
    done = run_command(
        "training", config_files("train.yaml", "multi_gpu_train.json"), TORCHRUN,
        **{**NETWORK, "amp": "false"}, **FOLD, dataset_dir=without_groups, ckpt_dir="a,b", output_dir="1e3",
        epochs=2, learning_rate=0.01, batch_size=3, num_workers=0, draws_per_image=2,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert {path.name for path in models.iterdir()} == {
        "model.pt", "model.json", "split.json", "resume_checkpoint_epoch=1.pt", "resume_checkpoint_epoch=2.pt",
    }  # fmt: skip
    assert len(list(output.iterdir())) == 1
    steps, dice = zip(*scalars(output, "val_mean_dice"), strict=True)
    assert steps == (1, 2)
    # Of 19 slices drawn twice each process has 19 draws: 7 batches of 3, the last of one draw.
    assert len(scalars(output, "train_loss")) == 2 * 7
    folders = {"dataset_dir": without_groups, "ckpt_path": models / "model.pt", "output_dir": tmp_path / "eval"}
    bundle.run("evaluate.yaml", "evaluating", **NETWORK, **FOLD, **folders, overlay_slices=0)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text(encoding="utf-8"))
    assert summary["cases"] == 5
    assert summary["dice"]["mean"] == pytest.approx(max(dice), abs=1e-5)


def flat(state: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([state[name].flatten().numpy() for name in sorted(state)])


def by_one_agent(command) -> list[subprocess.CompletedProcess[str]]:
    """One node with two processes."""
    return [command(TORCHRUN)]


def by_two_agents(command) -> list[subprocess.CompletedProcess[str]]:
    """Two nodes with a process each, which find each other at an address, as on a cluster."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = ("--nnodes", "2", "--nproc_per_node", "1", "--rdzv_backend", "c10d", "--rdzv_endpoint", address)
    launcher = (*TORCHRUN[:3], *nodes, "--local_addr", "127.0.0.1")
    with ThreadPoolExecutor() as pool:
        return list(pool.map(command, [launcher, launcher]))


@pytest.mark.parametrize("agents", [by_one_agent, pytest.param(by_two_agents, marks=pytest.mark.slow)])
def test_two_processes_make_the_steps_of_one_with_as_many_slices_together(
    run_command, bundle, without_groups, tmp_path, agents
):
    """By plain gradient descent, since Adam makes whole steps of gradients that are rounding alone."""
    network = ResidualAttentionUNet(features=(8, 16), attention="none")
    torch.save(network.state_dict(), tmp_path / "initial.pt")
    training = {
        **NETWORK, "init_path": tmp_path / "initial.pt", "dataset_dir": without_groups, "num_folds": 4, "fold": 2,
        "epochs": 1, "num_workers": 0, "learning_rate": 0.1, "draws_per_image": 1,
        "optimizer#_target_": "torch.optim.SGD",
    }  # fmt: skip
    alone = {"ckpt_dir": tmp_path / "alone", "output_dir": tmp_path / "alone_output", "batch_size": 6}
    bundle.run("train.yaml", "training", small=False, **{**training, **alone})
    together = {"ckpt_dir": tmp_path / "together", "output_dir": tmp_path / "together_output", "batch_size": 3}
    files = config_files("train.yaml", "multi_gpu_train.json")
    for done in agents(lambda launcher: run_command("training", files, launcher, **training, **together)):
        assert done.returncode == 0, done.stdout
    alone, together = (
        flat(torch.load(latest_checkpoint(options["ckpt_dir"]), weights_only=True)["network"])
        for options in (alone, together)
    )
    way = np.linalg.norm(alone - flat(network.state_dict()))
    assert np.linalg.norm(alone - together) < TOLERANCE * way
