"""Whole trainings of both bundles in which a number stops being one, in the middle of the second epoch."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from custom_components.engines.root_cause import root_cause
from custom_components.weights.not_finite import not_finite
from monai.bundle import ConfigWorkflow

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import Bundle, epochs_kept
from tests.bundles.seg.conftest import BUNDLE as SEG

COMMON = {"num_workers": 0, "epochs": 3, "fold": 0, "amp": False}
TINY = {"network_def#features": [4, 8, 16], "network_def#convolutions": [1, 2], "network_def#bottleneck_from": 16}
PATCHES = {"spacing_mm": [9.0, 9.6, 12.0], "patch_size": [32, 32, 16], "draw_size": [36, 34, 18], "draws_per_scan": 1}


@dataclass(frozen=True)
class Training:
    """A config that trains, as small as it runs."""

    bundle: Bundle
    configs: tuple[str, ...]
    data: str
    options: dict[str, Any]

    def workflow(self, data: Path, root: Path, **changes: Any) -> ConfigWorkflow:
        folders = {"dataset_dir": data, "ckpt_dir": root / "models", "output_dir": root / "output"}
        small = {} if self.configs[0] == "segment_train.yaml" else self.bundle.small
        workflow = self.bundle.workflow(*self.configs, **{**small, **COMMON, **self.options, **folders, **changes})
        workflow.initialize()
        return workflow


SLICES = {"num_folds": 2, "batch_size": 2, "draws_per_image": 2}
TRAININGS = {
    "seg": Training(SEG, ("train.yaml",), "slices", SLICES),
    "cap": Training(CAP, ("train.yaml",), "scans", {"batch_size": 2, "cache_dir": ""}),
    "balanced": Training(CAP, ("train.yaml", "size_balanced.yaml"), "scans", {"batch_size": 2, "cache_dir": ""}),
    "plain": Training(CAP, ("train.yaml", "plain.yaml"), "scans", {"batch_size": 2, "cache_dir": ""}),
    "vbnet": Training(
        CAP,
        ("segment_train.yaml",),
        "scans",
        {**TINY, **PATCHES, "draws_per_scan": 1, "batch_size": 2, "val_interval": 1},
    ),
}


def in_second_epoch(workflow: ConfigWorkflow, in_validation: bool = False) -> bool:
    return workflow.trainer.state.epoch == 2 and workflow.trainer.network.training != in_validation


def poison(workflow: ConfigWorkflow, fault: str) -> None:
    network, optimizer = workflow.trainer.network, workflow.trainer.optimizer
    weight = next(network.parameters())
    if fault == "gradient":
        weight.register_hook(lambda gradient: gradient * (math.nan if in_second_epoch(workflow) else 1))
    elif fault == "step":

        def ruin(*_: Any) -> None:
            if in_second_epoch(workflow):
                weight.data.fill_(math.inf)

        optimizer.register_step_post_hook(ruin)
    else:
        first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d))
        validates = fault == "validation"
        first.register_forward_hook(
            lambda *args: args[-1] * math.nan if in_second_epoch(workflow, validates) else args[-1]
        )


MESSAGES = {
    "loss": r"^Loss is nan in epoch 2, iteration \d+ \(learning rate [\d.e-]+; cases: (?!unknown)[\w, ]+\)\. Expected",
    "gradient": r"^Loss is [\d.]+, but the gradient is not finite in 1 \([\w.]+\) in epoch 2, .*cases: (?!unknown)",
    "step": r"^Weights or running statistics are not finite in 1 \([\w.]+\) in epoch 2, .*cases: (?!unknown)",
    "validation": r"^Case \w+: .*(NaN|nan).* Expected (a )?finite number.*mixed precision",
}


def check_files(models: Path) -> None:
    """What the first epoch left is there, finite, and nothing else is."""
    assert epochs_kept(models) == [1]
    newest = torch.load(models / "resume_checkpoint_epoch=1.pt", weights_only=True)["network"]
    best = torch.load(models / "model.pt", weights_only=True)
    assert newest.keys() == best.keys()
    assert not not_finite(newest) + not_finite(best)
    assert {path.suffix for path in models.iterdir()} == {".pt", ".json"}


FAULTS = [
    *((name, fault) for name in ("seg", "cap") for fault in MESSAGES),
    ("balanced", "step"),
    ("plain", "validation"),
    ("vbnet", "gradient"),
    ("vbnet", "validation"),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_whatever_is_not_finite_ends_the_training_with_the_files_of_before(name, fault, request, tmp_path):
    training = TRAININGS[name]
    workflow = training.workflow(request.getfixturevalue(training.data), tmp_path)
    poison(workflow, fault)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        workflow.run()
    assert re.search(MESSAGES[fault], root_cause(caught.value)), root_cause(caught.value)
    check_files(tmp_path / "models")


@pytest.mark.parametrize("name", ["seg", "cap"])
def test_after_it_the_training_goes_on_from_the_epoch_before(name, request, tmp_path):
    training, data = TRAININGS[name], request.getfixturevalue(TRAININGS[name].data)
    workflow = training.workflow(data, tmp_path)
    poison(workflow, "gradient")
    with pytest.raises(RuntimeError):
        workflow.run()
    training.workflow(data, tmp_path, resume=True, epochs=2).run()
    assert epochs_kept(tmp_path / "models") == [1, 2]


@pytest.mark.parametrize("name", ["seg", "cap"])
def test_an_absurd_learning_rate_ends_the_training_at_once_and_leaves_no_model(name, request, tmp_path):
    training = TRAININGS[name]
    workflow = training.workflow(request.getfixturevalue(training.data), tmp_path, learning_rate=1e30)
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert "in epoch 1, iteration 1 (learning rate 1e+30; cases: " in root_cause(caught.value)
    assert not list((tmp_path / "models").glob("*.pt"))


ABLATIONS = ("no_attention.yaml", "full_attention.yaml", "unet.yaml", "no_resnext.yaml", "last_weights.yaml")


@pytest.mark.parametrize(
    ("bundle", "configs"),
    [
        *((training.bundle, training.configs) for training in TRAININGS.values()),
        *((SEG, ("train.yaml", name)) for name in ABLATIONS),
        *((bundle, ("train.yaml", "multi_gpu_train.json")) for bundle in (SEG, CAP)),
        (CAP, ("train.yaml", "size_balanced.yaml", "multi_gpu_train.json")),
    ],
)
def test_every_training_stops_on_nan_in_every_process(bundle, configs):
    handlers = bundle.parser_of(*configs)["train::handlers"]
    (stop,) = (handler for handler in handlers if handler["_target_"] == "custom_components.StopOnNaN")
    assert "_disabled_" not in stop
