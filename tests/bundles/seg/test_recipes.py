"""The recipes on top of the paper's."""

import json
from collections import Counter

import pytest
import torch

from tests.bundles.conftest import Bundle, scalars
from tests.bundles.seg.conftest import GOLDEN, SMALL, TRAINING

PATCH = [24, 20]
RECIPE = ("strong_augmentation.yaml", "lesion_patches.yaml", "dice_cross_entropy.yaml", "cosine_schedule.yaml")
PATCHES = {"patch_size": PATCH}


@pytest.fixture
def batches(workflow_of, slices, tmp_path):
    """Batches of patches from slices of 48 x 48, 24 draws each."""
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path, "output_dir": tmp_path}
    many = {"num_workers": 0, "num_folds": 4, "draws_per_image": 24, "batch_size": 36}
    workflow = workflow_of("train.yaml", *RECIPE[:2], **{**SMALL, **many, **folders, **PATCHES})
    workflow.initialize()
    return list(workflow.parser.get_parsed_content("train#dataloader"))


def test_a_patch_has_each_class_at_its_centre_equally_often(batches):
    labels = torch.cat([batch["label"] for batch in batches])
    assert labels.shape == (18 * 24, 1, *PATCH)
    inner = labels[:, 0, 6:18, 5:15].flatten(1)
    near = Counter(value for patch in inner for value in (1, 2, 3) if bool((patch == value).any()))
    assert min(near[value] for value in (1, 2, 3)) > 0.2 * len(labels)


def test_what_is_drawn_differs_in_place_and_contrast_and_has_no_other_label(batches):
    images = torch.cat([batch["image"] for batch in batches])
    labels = torch.cat([batch["label"] for batch in batches])
    assert len(images.flatten(1).unique(dim=0)) > 0.98 * len(images)
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}
    assert images.isfinite().all()


@pytest.mark.slow  # a minute of one core
def test_the_recipe_learns(bundle, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    patches = {"patch_size": [40, 40]}
    bundle.run(["train.yaml", *RECIPE], "training", **{**TRAINING, **folders, **patches})
    losses = [loss for _, loss in scalars(folders["output_dir"], "train_loss")]
    assert sum(losses[-20:]) < 0.65 * sum(losses[:20])


@pytest.mark.slow
def test_a_training_starts_from_the_weights_of_the_network_without_attention(bundle, slices, tmp_path):
    first = {"dataset_dir": slices, "ckpt_dir": tmp_path / "m_a", "output_dir": tmp_path / "m_a/output"}
    bundle.run(["train.yaml", "no_attention.yaml"], "training", **{**GOLDEN, "epochs": 2, **first})
    second = {"dataset_dir": slices, "ckpt_dir": tmp_path / "m", "output_dir": tmp_path / "m/output"}
    start = {"init_path": tmp_path / "m_a/model.pt", "epochs": 1, "learning_rate": 1e-9}
    bundle.run(["train.yaml", "add_attention.yaml"], "training", **{**GOLDEN, **start, **second})
    reached = max(value for _, value in scalars(first["output_dir"], "val_mean_dice"))
    assert scalars(second["output_dir"], "val_mean_dice")[0][1] == pytest.approx(reached, abs=0.01)


def test_all_cases_train_and_the_last_weights_are_kept_in_half_precision(bundle, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    bundle.run(["train.yaml", "all_cases.yaml"], "training", **{**TRAINING, **folders, "epochs": 1})
    split = json.loads((tmp_path / "models/split.json").read_text())
    assert (len(split["training"]), split["validation"]) == (24, [])
    state = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float16}


def test_a_peer_is_trained_and_scored_by_the_same_configs(bundle, slices, tmp_path):
    peer = {"num_workers": 0, "num_folds": 4, "spatial_size": [64, 64], "amp": False, "dataset_dir": slices, "fold": 0}
    network = Bundle(bundle.folder, {})
    folders = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    network.run(["train.yaml", "flexible_unet.yaml"], "training", epochs=1, draws_per_image=1, **peer, **folders)
    del peer["num_workers"]
    scored = {"ckpt_path": tmp_path / "models/model.pt", "output_dir": tmp_path / "eval"}
    network.run(["evaluate.yaml", "flexible_unet.yaml"], "evaluating", **peer, **scored)
    assert len((tmp_path / "eval/per_case.csv").read_text().splitlines()) == 1 + 6


@pytest.mark.slow  # compiles for a minute
def test_a_compiled_training_gives_weights_that_the_network_itself_loads(bundle, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    bundle.run(["train.yaml", "no_attention.yaml"], "training", **GOLDEN, **folders, compile=True)
    scored = {"ckpt_path": tmp_path / "models/model.pt", "output_dir": tmp_path / "eval", "dataset_dir": slices}
    bundle.run(["evaluate.yaml", "no_attention.yaml"], "evaluating", **scored, num_folds=4, fold=0)
    summary = json.loads((tmp_path / "eval/summary.json").read_text())
    reached = max(value for _, value in scalars(folders["output_dir"], "val_mean_dice"))
    assert summary["dice"]["mean"] == pytest.approx(reached, abs=1e-3)
