"""Training as MONAI Label starts it: its own lists of volumes, its own handlers, the device as a word."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from custom_components.phantom import make_volume
from custom_components.phantom.nifti import phantom_hu, write_nifti_array

from tests.bundles.conftest import scalars
from tests.bundles.seg.conftest import BUNDLE, LESIONS_ML, parser_of


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[dict[str, str]]:
    """Volumes of unlike sizes, and their labels."""
    folder = tmp_path_factory.mktemp("volumes")
    found = []
    for seed, shape in enumerate([(46, 40, 9), (44, 48, 7), (42, 38, 5)]):
        volume = make_volume(seed, shape, (7.8, 8.2, 30.0), LESIONS_ML)
        item = {kind: folder / f"{kind}_{seed}.nii.gz" for kind in ("image", "label")}
        write_nifti_array(phantom_hu(volume), volume, item["image"])
        write_nifti_array(volume.label, volume, item["label"])
        found.append({kind: str(path) for kind, path in item.items()})
    return found


@pytest.fixture
def train(tmp_path):
    """The weights before and after, and the files that are there then."""

    def call(training: list, validation: list, run_id: str = "run") -> SimpleNamespace:
        models = tmp_path / "models"
        models.mkdir()
        network = BUNDLE.workflow("train.yaml", **BUNDLE.small).parser.get_parsed_content("network_def")
        torch.save(network.state_dict(), models / "model.pt")
        before = torch.load(models / "model.pt", weights_only=True)
        loader = {"_target_": "CheckpointLoader", "load_path": str(models / "model.pt"), "strict": False}
        handlers = [{**loader, "load_dict": {"model": "$@network"}}, *parser_of("train.yaml").get("train#handlers")]
        lists = {"train#dataset#data": training, "validate#dataset#data": validation, "train#handlers": handlers}
        more = {"num_workers": 0, "draws_per_image": 2, "learning_rate": 0.01, "device": "cpu"}
        folders = {"ckpt_dir": models, "output_dir": tmp_path / "output"}
        BUNDLE.run("train.yaml", run_id, **{"train#trainer#max_epochs": 1}, **lists, **more, **folders)
        return SimpleNamespace(
            scores=scalars(folders["output_dir"], "val_mean_dice") if validation else [],
            before=before,
            after=torch.load(models / "model.pt", weights_only=True),
            split=json.loads((models / "split.json").read_text(encoding="utf-8")),
        )

    return call


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return any(not torch.equal(one[name], other[name]) for name in one)


def names(cases: list[dict[str, str]]) -> list[str]:
    return [Path(case["image"]).name for case in cases]


@pytest.mark.parametrize("run_id", ["run", ""], ids=["run", "all ids"])
def test_the_volumes_of_the_lists_are_trained_on_once_and_written_down(train, items, run_id):
    """A viewer that leaves MONAI Label's field of the run's id empty asks for the whole config."""
    run = train(items[:2], items[2:], run_id)
    assert [step for step, _ in run.scores] == [1]
    assert differ(run.before, run.after)
    assert names(run.split["training"]) == ["image_0.nii.gz", "image_1.nii.gz"]
    assert names(run.split["validation"]) == ["image_2.nii.gz"]


def test_without_validation_the_last_weights_are_kept(train, items):
    run = train(items[:1], [])
    assert differ(run.before, run.after)
    assert names(run.split["training"]) == ["image_0.nii.gz"]
    assert run.split["validation"] == []
