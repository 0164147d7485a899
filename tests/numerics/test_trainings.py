"""Whole trainings of both bundles in which a number stops being one, in the middle of the second epoch."""

import math
import re
from collections.abc import Callable
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

COMMON = {"num_workers": 0, "epochs": 3, "fold": 0, "amp": False, "batch_size": 2}
# Bundle, data and options of a training as small as it runs.
TRAININGS: dict[str, tuple[Bundle, str, dict[str, Any]]] = {
    "seg": (SEG, "slices", {"num_folds": 2, "draws_per_image": 2}),
    "cap": (CAP, "scans", {"cache_dir": ""}),
}


@pytest.fixture
def training(request, tmp_path) -> Callable[..., ConfigWorkflow]:
    def workflow(name: str, **changes: Any) -> ConfigWorkflow:
        bundle, data, options = TRAININGS[name]
        folders = {
            "dataset_dir": request.getfixturevalue(data),
            "ckpt_dir": tmp_path / "models",
            "output_dir": tmp_path / "output",
        }
        made = bundle.workflow("train.yaml", **{**bundle.small, **COMMON, **options, **folders, **changes})
        made.initialize()
        return made

    return workflow


def in_second_epoch(workflow: ConfigWorkflow, in_validation: bool = False) -> bool:
    return workflow.trainer.state.epoch == 2 and workflow.trainer.network.training != in_validation


def poison(workflow: ConfigWorkflow, fault: str) -> None:
    network = workflow.trainer.network
    if fault == "gradient":
        weight = next(network.parameters())
        weight.register_hook(lambda gradient: gradient * (math.nan if in_second_epoch(workflow) else 1))
    else:
        first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d))
        first.register_forward_hook(lambda *args: args[-1] * math.nan if in_second_epoch(workflow, True) else args[-1])


MESSAGES = {
    "gradient": r"^Loss is [\d.]+, but the gradient is not finite in 1 \([\w.]+\) in epoch 2, .*cases: (?!unknown)",
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


@pytest.mark.parametrize("fault", MESSAGES)
@pytest.mark.parametrize("name", TRAININGS)
def test_whatever_is_not_finite_ends_the_training_with_the_files_of_before(name, fault, training, tmp_path):
    workflow = training(name)
    poison(workflow, fault)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        workflow.run()
    assert re.search(MESSAGES[fault], root_cause(caught.value)), root_cause(caught.value)
    check_files(tmp_path / "models")
    if fault == "gradient":
        training(name, resume=True, epochs=2).run()
        assert epochs_kept(tmp_path / "models") == [1, 2]


@pytest.mark.parametrize("name", TRAININGS)
def test_an_absurd_learning_rate_ends_the_training_at_once_and_leaves_no_model(name, training, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        training(name, learning_rate=1e30).run()
    assert "in epoch 1, iteration 1 (learning rate 1e+30; cases: " in root_cause(caught.value)
    assert not list((tmp_path / "models").glob("*.pt"))


ABLATIONS = ("no_attention.yaml", "full_attention.yaml", "unet.yaml", "no_resnext.yaml", "last_weights.yaml")


@pytest.mark.parametrize(
    ("bundle", "configs"),
    [
        (SEG, ("train.yaml",)),
        (CAP, ("train.yaml",)),
        (CAP, ("segment_train.yaml",)),
        *((CAP, ("train.yaml", name)) for name in ("size_balanced.yaml", "plain.yaml")),
        *((SEG, ("train.yaml", name)) for name in ABLATIONS),
        *((bundle, ("train.yaml", "multi_gpu_train.json")) for bundle in (SEG, CAP)),
        (CAP, ("train.yaml", "size_balanced.yaml", "multi_gpu_train.json")),
    ],
)
def test_every_training_stops_on_nan_in_every_process(bundle, configs):
    handlers = bundle.parser_of(*configs)["train::handlers"]
    (stop,) = (handler for handler in handlers if handler["_target_"] == "custom_components.StopOnNaN")
    assert "_disabled_" not in stop
