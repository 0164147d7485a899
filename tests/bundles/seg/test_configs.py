import json
from typing import Any

import pytest
import torch
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from custom_components.transforms.small_lesions import SMALLEST
from custom_components.weights.model_card import network_arguments, read_card
from monai.data import MetaTensor

from tests.bundles.conftest import as_without_card, class_name, knobs_of, training_handler, transforms_in, wrong_knobs
from tests.bundles.seg.conftest import BUNDLE, SMALL, parser_of

PLACES = {
    "train": ("train.yaml", "train::deterministic_transforms"),
    "validate": ("train.yaml", "validate::preprocessing"),
    "evaluate": ("evaluate.yaml", "preprocessing"),
    "inference": ("inference.json", "preprocessing"),
}
QUICK = {"num_workers": 0, "cache_rate": 0.0}


def image_transforms(place: str) -> list[dict[str, Any]]:
    """What happens to the image, in order; modes and keys of labels beside it do not matter."""
    file, where = PLACES[place]
    found = []
    for transform in transforms_in(parser_of(file), f"@{where}".replace("::", "#")):
        keys = transform["keys"] if isinstance(transform["keys"], list) else [transform["keys"]]
        if "image" in keys and transform["_target_"] != "CopyItemsd":  # the copy feeds the report
            mode = transform.get("mode")
            mode = mode[keys.index("image")] if isinstance(mode, list) else mode
            found.append({**transform, "keys": "image", "mode": mode})
    return found


@pytest.mark.parametrize("place", ["validate", "evaluate", "inference"])
def test_the_image_is_prepared_as_in_training(place):
    expected = image_transforms("train")
    assert [transform["_target_"] for transform in expected] == [
        "LoadImaged", "Orientationd", "ScaleIntensityRanged", "CropForegroundd", "Resized",
    ]  # fmt: skip
    assert image_transforms(place) == expected


OF_WEIGHTS = ("spatial_size", "body_crop", "within_lungs", "smallest_lesion")
SHARED = [
    "spatial_size",
    "window_hu",
    "body_crop",
    "flip_axes",
    "within_lungs",
    "smallest_lesion",
    "batch_size",
    "device",
]


@pytest.mark.parametrize("key", SHARED)
def test_a_number_is_the_same_in_all_configs(key):
    train, evaluate, inference = (
        as_without_card(parser_of(name)[key]) for name in ("train.yaml", "evaluate.yaml", "inference.json")
    )
    assert train == evaluate
    if key not in OF_WEIGHTS:
        assert evaluate == inference


def test_inference_has_the_network_and_the_numbers_of_the_weights_that_come_with_the_bundle():
    """`monai.bundle.load` parses it where no card is found, and leaves out weights that do not fit."""
    card, inference = read_card(BUNDLE.folder / "models" / "model.pt"), parser_of("inference.json")
    network, trained = as_without_card(inference["network_def"]), network_arguments(card)
    assert {name: network[name] for name in trained} == trained
    assert {name: as_without_card(inference[name]) for name in card["settings"]} == card["settings"]


OF_THE_WEIGHTS = {"body_crop": True, "within_lungs": True, "smallest_lesion": SMALLEST}


def test_the_smallest_lesion_is_one_number(tmp_path):
    recipe, bare = parser_of("train.yaml", "body_and_lungs.yaml"), parser_of("inference.json")
    bare["ckpt_path"] = str(tmp_path / "no_card.pt")
    found = [parser.get_parsed_content("smallest_lesion") for parser in (recipe, bare)]
    assert found == [SMALLEST] * 2
    for file in (*(BUNDLE.folder / "configs").rglob("*.yaml"), BUNDLE.folder / "configs" / "inference.json"):
        assert str(SMALLEST) not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("knobs", [{}, {"within_lungs": False}, {"body_crop": False, "smallest_lesion": 0.01}])
def test_inference_makes_of_an_output_what_the_evaluation_does(volume, tmp_path, knobs):
    """In steps, and the classes where the evaluation takes the probabilities back to the grid of the file."""
    path = tmp_path / "ct.nii.gz"
    write_nifti_array(phantom_hu(volume), volume, path)
    write_nifti_array(volume.label, volume, tmp_path / "label.nii.gz")
    noise, found = torch.randn(4, 12, 12, volume.label.shape[2]), {}
    logits = torch.nn.functional.interpolate(noise[None], (48, 48, noise.shape[-1]), mode="trilinear")[0]
    for name in ("evaluate.yaml", "inference.json"):
        parser = parser_of(name)
        parser.update({"spatial_size": [48, 48], "output_dir": str(tmp_path), **OF_THE_WEIGHTS, **knobs})
        case = {"image": str(path), **({"label": str(tmp_path / "label.nii.gz")} if name == "evaluate.yaml" else {})}
        item = parser.get_parsed_content("preprocessing")(case)
        item["pred"] = MetaTensor(logits.clone()).copy_meta_from(item["image"])
        found[name] = parser.get_parsed_content("postprocessing")(item)["pred"]
    assert len(found["inference.json"].unique()) == 4
    assert torch.equal(found["inference.json"], found["evaluate.yaml"])
    assert torch.equal(found["inference.json"].affine, found["evaluate.yaml"].affine)


def test_without_a_card_the_network_of_the_training_is_evaluated():
    train, evaluate = parser_of("train.yaml"), parser_of("evaluate.yaml")
    assert evaluate.get_parsed_content("network_def").definition == train.get_parsed_content("network_def").definition


def test_the_papers_numbers_are_the_defaults(workflow_of, slices, tmp_path):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    workflow = workflow_of("train.yaml", **QUICK, **folders)
    workflow.initialize()
    get = workflow.parser.get_parsed_content
    optimizer = get("optimizer")
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults == adam.defaults
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]) == (1e-3, (0.9, 0.999))
    assert workflow.max_epochs == 100
    assert (get("split")["num_folds"], get("split")["fold"]) == (10, 0)
    training, drawn = get("train#dataset"), get("train#drawn_dataset")
    assert len(drawn) == 6 * len(training)
    assert training[0]["image"].shape == training[0]["label"].shape == (1, 369, 369)
    assert get("network_def").encoder[0][0].conv.out_channels == 32


KNOBS = {
    "epochs": (3, lambda get: get("train#trainer").state.max_epochs, 3),
    "learning_rate": (0.02, lambda get: get("optimizer").param_groups[0]["lr"], 0.02),
    "batch_size": (5, lambda get: get("train#dataloader").batch_size, 5),
    "spatial_size": ([40, 40], lambda get: tuple(get("train#dataset")[0]["image"].shape), (1, 40, 40)),
    "draws_per_image": (2, lambda get: len(get("train#drawn_dataset")) / len(get("train#dataset")), 2),
    "num_folds": (4, lambda get: len(get("split")["validation"]), 6),
    "fold": (9, lambda get: get("split")["fold"], 9),
    "protocol": ("paper", lambda get: get("split")["protocol"].split()[0], "paper"),
    "seed": (7, lambda get: get("split")["seed"], 7),
    "val_interval": (8, lambda get: training_handler(get, "ValidationHandler").interval, 8),
    "body_crop": (True, lambda get: class_name(get("train#deterministic_transforms")[6]), "CropForegroundd"),
    "flip_axes": ([0], lambda get: get("validate#inferer").inferer.axes, (0,)),
    "within_lungs": (True, lambda get: class_name(get("validate#postprocessing").transforms[-2]), "LesionsInLungsd"),
    "smallest_lesion": (0.1, lambda get: get("validate#postprocessing").transforms[-1].smallest, 0.1),
    "init_path": ("weights.pt", lambda get: training_handler(get, "LoadWeights") is not None, True),
    "window_hu": ([-1000, 500], lambda get: get("train#deterministic_transforms")[5].scaler.a_max, 500),
    "num_workers": (1, lambda get: get("train#dataloader").num_workers, 1),
    "cache_rate": (0.5, lambda get: get("train#dataset").cache_num, 9),
    "amp": (False, lambda get: get("train#inferer").enabled, False),
    "device": ("$torch.device('meta')", lambda get: get("device").type, "meta"),
    "resume": (True, lambda get: training_handler(get, "ResumeTraining") is not None, True),
    "network_def#encoder": ("plain", lambda get: class_name(get("network_def").encoder[0]), "DoubleConvolution"),
    "network_def#attention": ("full", lambda get: class_name(get("network_def").decoder[0].attention), "FullAttention"),
    "network_def#features": ([8, 16], lambda get: len(get("network_def").encoder), 2),
    "compile": (True, lambda get: get("train#trainer").compile, True),
    "optimizer#betas": ([0.8, 0.9], lambda get: get("optimizer").param_groups[0]["betas"], (0.8, 0.9)),
    "loss#sigmoid": (True, lambda get: get("loss").sigmoid, True),
}  # fmt: skip


APART = ("device", "fold", "init_path")


@pytest.mark.parametrize("knobs", [set(KNOBS) - {*APART}, *({knob} for knob in APART)], ids=["all others", *APART])
def test_the_knobs_of_the_training_can_be_set(workflow_of, slices, tmp_path, knobs):
    folders = {"dataset_dir": slices, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    given = {knob: KNOBS[knob][0] for knob in knobs}
    workflow = workflow_of("train.yaml", **{**SMALL, **QUICK, **folders, **given})
    assert wrong_knobs({knob: KNOBS[knob] for knob in KNOBS if knob in knobs}, workflow_get(workflow)) == {}


def workflow_get(workflow):
    workflow.initialize()
    return workflow.parser.get_parsed_content


def test_every_knob_of_the_training_is_among_those():
    knobs = knobs_of(BUNDLE.folder / "configs" / "train.yaml")
    by_recipes = {"init_own", "half_weights"}  # run in test_recipes.py
    places = {"bundle_root", "dataset_dir", "ckpt_dir", "output_dir", "replace_weights"}
    assert knobs - set(KNOBS) == {"imports", *places, "border", *by_recipes}


def test_border_can_be_set_where_no_groups_are_known(workflow_of, slices, tmp_path):
    datalist = json.loads((slices / "datalist.json").read_text(encoding="utf-8"))["cases"]
    cases = [{key: str(slices / case[key]) for key in ("image", "label")} for case in datalist]
    (tmp_path / "list.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    workflow = workflow_of("train.yaml", dataset_dir=tmp_path / "list.json", fold=5, border=2)
    assert len(workflow_get(workflow)("split")["left_out"]) == 4
