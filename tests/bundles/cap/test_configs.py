import json
import logging
from collections import Counter
from typing import Any

import pytest
import torch
from custom_components.transforms.attention_levels import LEVELS_FROM
from custom_components.weights.model_card import write_card
from ignite.engine import Events
from monai.bundle import ConfigParser, verify_net_in_out

from tests.bundles.cap.conftest import BUNDLE, EVALUATION, NO_WORKERS, SMALL, config_files, datalist_of, parser_of
from tests.bundles.conftest import (
    as_text,
    as_without_card,
    class_name,
    knobs_of,
    training_handler,
    transforms_in,
    wrong_knobs,
)

TRAIN = ("train.yaml",)
EVALUATE = ("evaluate.yaml",)
ENSEMBLE = ("evaluate.yaml", "ensemble.yaml")
INFER = ("inference.json",)
PLACES = {
    "train": ("train.yaml", "train#deterministic_transforms"),
    "evaluate": ("evaluate.yaml", "preprocessing"),
    "inference": ("inference.json", "preprocessing"),
}
INFERENCE_ALONE = {  # what comes without masks and ratio, and what goes back to the scan's own grid
    "custom_components.SegmentLungsd",
    "custom_components.FallbackLungMaskd",
    "custom_components.InfectionRatiod",
    "CopyItemsd",
    "custom_components.RatioChanneld",
}
TINY = {"grid": [8, 20, 16], "spacing_mm": [18.0, 9.0, 12.0]}


@pytest.fixture
def training(workflow_of, scans, cache_dir, tmp_path):
    """A training that is made and not run; `get` gives what an id stands for."""

    def make(*names: str, **changes: Any):
        folders = {"dataset_dir": scans, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
        given = {**SMALL, **NO_WORKERS, "cache_dir": cache_dir, **folders, **changes}
        workflow = workflow_of(*(names or ("train.yaml",)), **given)
        workflow.initialize()
        return workflow, workflow.parser.get_parsed_content

    return make


def test_the_network_that_is_trained_is_that_of_the_bundle(training):
    workflow, get = training("train.yaml")
    assert workflow.network_def is get("training_network").network


def transforms_of(place: str) -> list[dict[str, Any]]:
    """What makes the network's input, in order."""
    file, where = PLACES[place]
    steps = [
        {**step} for step in transforms_in(parser_of(file), f"@{where}") if step["_target_"] not in INFERENCE_ALONE
    ]
    for step in steps:
        step.pop("allow_missing_keys", None)
    return [step for step in steps if step["_target_"] != "SelectItemsd"]


@pytest.mark.parametrize("place", ["evaluate", "inference"])
def test_a_scan_is_prepared_as_in_training(place):
    expected = transforms_of("train")
    assert [step["_target_"] for step in expected] == [
        "LoadImaged", "LoadImaged", "custom_components.AlignMasksd", "custom_components.CheckScand",
        "custom_components.PaperGridd",
    ]  # fmt: skip
    assert transforms_of(place) == expected


def test_evaluation_reads_the_cache_of_the_training(training, workflow_of, scans, cache_dir, tmp_path):
    """The names of the cached files depend on every setting of the transforms."""
    _, get = training(fold=2)
    folders = {"dataset_dir": scans, "output_dir": tmp_path, "cache_dir": cache_dir}
    workflow = workflow_of("evaluate.yaml", workflow_type="infer", **{**SMALL, **NO_WORKERS, **EVALUATION, **folders})
    workflow.initialize()
    validation, evaluation = get("validate#dataset"), workflow.parser.get_parsed_content("dataset")
    assert len(evaluation) == len(validation) > 0
    for item in evaluation.data:
        assert evaluation.cache_file(item) == validation.cache_file(item)


def test_inference_shows_the_network_what_the_training_did(training, workflow_of, scans, tmp_path):
    _, get = training(fold=0)
    inference = workflow_of("inference.json", workflow_type="infer", dataset_dir=scans, output_dir=tmp_path, **SMALL)
    inference.initialize()
    validation = get("validate#dataset")
    by_name = {item["case_id"]: item for item in inference.parser.get_parsed_content("dataset#data")}
    for number in (0, len(validation) - 1):
        name = validation[number]["case_id"]
        item = inference.parser.get_parsed_content("preprocessing")(by_name[name])
        assert item["image"].shape == (2, *SMALL["grid"])
        assert torch.allclose(item["image"][0].as_tensor(), validation[number]["image"][0], atol=0.51 / 255)
        assert item["image"][1].unique().tolist() == pytest.approx([by_name[name]["ratio"]])


@pytest.mark.parametrize(
    ("key", "configs"),
    [
        *((key, (TRAIN, EVALUATE, INFER)) for key in (
            "grid", "spacing_mm", "max_scale", "window_hu", "layers", "block_inplanes", "no_max_pool", "amp", "device",
        )),
        *((key, (ENSEMBLE, INFER)) for key in (
            "weights", "ratio_thresholds", "threshold", "branch_def", "network_def",
        )),
        ("cache_dir", (TRAIN, EVALUATE)),
        ("network_def", (TRAIN, EVALUATE)),
    ],
)  # fmt: skip
def test_a_number_is_the_same_in_all_configs(key, configs):
    first, *others = (as_without_card(parser_of(*names)[key]) for names in configs)
    assert others == [first] * (len(configs) - 1)


def test_a_branch_is_the_network_that_was_trained():
    assert parser_of("inference.json")["branch_def"] == parser_of("train.yaml")["network_def"]
    plain = as_without_card(dict(parser_of("inference.json")["plain_def"]))
    assert plain.pop("_disabled_")
    assert plain == parser_of("train.yaml")["network_def"]


@pytest.mark.parametrize(
    ("overlay", "system"), [("train.yaml", "uniform"), ("plain.yaml", "plain"), ("size_balanced.yaml", "size_balanced")]
)
def test_an_evaluation_with_the_overlay_of_a_training_scores_its_weights_in_a_folder_of_their_own(overlay, system):
    names = ("evaluate.yaml",) if overlay == "train.yaml" else ("evaluate.yaml", overlay)
    ConfigParser.load_config_files([str(BUNDLE.folder / "configs" / name) for name in names])  # as MONAI does first
    parser = BUNDLE.workflow(*names, bundle_root="here").parser
    assert parser.get_parsed_content("ckpt_path") == f"here/models/{system}/model.pt"
    assert parser.get_parsed_content("output_dir") == f"here/eval/{system}"


def test_weights_name_the_folder_of_their_scores(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    write_card(path, {"system": "plain"})
    parser = BUNDLE.workflow("evaluate.yaml", bundle_root="here", ckpt_path=path).parser
    assert parser.get_parsed_content("output_dir") == "here/eval/plain"


def learning_rates(get, epochs: int) -> list[float]:
    """Of each epoch, the scheduler stepped after it."""
    scheduler, optimizer, rates = get("lr_scheduler"), get("optimizer"), []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_the_papers_numbers_are_the_defaults(workflow_of, scans, tmp_path):
    folders = {"dataset_dir": scans, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    workflow = workflow_of("train.yaml", num_workers=0, cache_dir="", **folders)
    workflow.initialize()
    get = workflow.parser.get_parsed_content
    optimizer = get("optimizer")
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["betas"][0] == 0.9
    assert optimizer.param_groups[0]["weight_decay"] == 1e-4
    expected = [rate for rate in (2e-4, 2e-5, 2e-6, 2e-7) for _ in range(5)]
    assert learning_rates(get, 20) == pytest.approx(expected)
    assert (workflow.max_epochs, get("train#dataloader").batch_size, get("val_interval")) == (20, 20, 1)
    assert get("accumulation_steps") == 1
    assert get("loss").attention_weight == 0.5
    assert get("train#dataset")[0]["image"].shape == (1, 138, 256, 256)
    assert sum(weight.numel() for weight in get("network_def").parameters()) == pytest.approx(63.47e6, rel=1e-4)


@pytest.mark.parametrize(("names", "small"), [(ENSEMBLE, EVALUATION), (INFER, {})], ids=["ensemble", "inference"])
def test_the_ensemble_is_weighted_as_in_the_paper(workflow_of, scans, tmp_path, names, small):
    folders = {"dataset_dir": scans, "output_dir": tmp_path, "cache_dir": ""}
    workflow = workflow_of(*names, workflow_type="infer", **small, **folders, **SMALL)
    workflow.initialize()
    network = workflow.parser.get_parsed_content("network_def")
    assert (network.weights, network.ratio_thresholds) == ((0.35, 0.96), (0.001, 0.030))
    assert network.decision_threshold == 0.5


KNOBS = {
    "grid": ([9, 21, 15], lambda get: tuple(get("train#dataset")[0]["image"].shape), (1, 9, 21, 15)),
    "spacing_mm": ([7, 4, 5], lambda get: get("train#deterministic_transforms")[4].spacing_mm, (7, 4, 5)),
    "max_scale": (0.25, lambda get: get("train#deterministic_transforms")[4].max_scale, 0.25),
    "window_hu": ([-1000, 500], lambda get: get("train#deterministic_transforms")[4].window_hu, (-1000, 500)),
    "attention_weight": (0.25, lambda get: get("loss").attention_weight, 0.25),
    "epochs": (3, lambda get: get("train#trainer").state.max_epochs, 3),
    "learning_rate": (0.02, lambda get: get("optimizer").param_groups[0]["lr"], 0.02),
    "weight_decay": (0.3, lambda get: get("optimizer").param_groups[0]["weight_decay"], 0.3),
    "lr_step": (2, lambda get: learning_rates(get, 3), pytest.approx([0.02, 0.02, 0.002])),
    "batch_size": (5, lambda get: get("train#dataloader").batch_size, 5),
    "accumulation_steps": (4, lambda get: get("train#trainer").accumulation_steps, 4),
    "val_batch_size": (6, lambda get: get("validate#dataloader").batch_size, 6),
    "val_interval": (7, lambda get: training_handler(get, "RecomputeNorm").interval, 7),
    "norm_batches": (8, lambda get: training_handler(get, "RecomputeNorm").batches, 8),
    "block_inplanes": ([3, 4, 5, 9], lambda get: get("network_def").fc.in_features, 9),
    "layers": ([1, 2, 1, 1], lambda get: len(get("network_def").layer2), 2),
    "no_max_pool": (False, lambda get: get("network_def").no_max_pool, False),
    "fold": (1, lambda get: {scan["fold"] for scan in get("split")["validation"]}, {1}),
    "system": ("mine", lambda get: get("model_card").system, "mine"),
    "seed": (17, lambda get: get("train#sampler").seed, 17),
    "num_workers": (1, lambda get: get("train#dataloader").num_workers, 1),
    "cache_dir": ("", lambda get: get("train#dataset").cache_dir, None),
    "amp": (False, lambda get: get("train#inferer").enabled, False),
    "device": ("$torch.device('meta')", lambda get: next(get("network").parameters()).device.type, "meta"),
    "resume": (True, lambda get: training_handler(get, "ResumeTraining") is not None, True),
    "network_def#alpha": (50, lambda get: get("network_def").online_attention.alpha, 50),
    "optimizer#betas": ([0.8, 0.9], lambda get: get("optimizer").param_groups[0]["betas"], (0.8, 0.9)),
}


@pytest.mark.parametrize("knobs", [set(KNOBS) - {"device"}, {"device"}], ids=["all others", "device"])
def test_the_knobs_of_the_training_can_be_set(training, knobs):
    _, get = training(**{knob: KNOBS[knob][0] for knob in knobs})
    assert wrong_knobs({knob: KNOBS[knob] for knob in KNOBS if knob in knobs}, get) == {}


def test_every_knob_of_the_training_is_among_those():
    knobs = knobs_of(BUNDLE.folder / "configs" / "train.yaml")
    assert knobs - set(KNOBS) == {
        "imports", "bundle_root", "dataset_dir", "ckpt_dir", "output_dir", "replace_weights",
    }  # fmt: skip


def test_size_balanced_sampling_knows_the_training_side_alone(training, scans, caplog):
    _, get = training("train.yaml", "size_balanced.yaml", fold=1, seed=5)
    with caplog.at_level(logging.INFO):
        get("train#trainer")
    sampler = get("train#sampler")
    assert sampler.table() in caplog.text  # before the first step
    assert (class_name(sampler), sampler.seed) == ("SizeBalancedSampler", 5)
    groups = [case["group"] for case in datalist_of(scans) if case["fold"] != 1]
    assert sampler.group_counts == dict(Counter(groups))
    assert len(sampler) == len(groups) == len(get("train#dataset"))
    each = [sampler.group_probabilities[group] / sampler.group_counts[group] for group in groups]
    assert sampler.weights.tolist() == pytest.approx(each)


def epochs_of(training, *names: str) -> list[list[str]]:
    """Names of the scans that each of two epochs takes, in order."""
    workflow, _ = training(*names, **TINY, epochs=2, val_interval=9, batch_size=7)
    seen: list[list[str]] = [[], []]

    def note(trainer):
        seen[trainer.state.epoch - 1].extend(trainer.state.batch["case_id"])

    workflow.trainer.add_event_handler(Events.ITERATION_STARTED, note)
    workflow.trainer.run()
    return seen


def test_uniform_sampling_takes_every_scan_once_an_epoch_in_another_order(training, scans):
    first, second = epochs_of(training, "train.yaml")
    assert sorted(first) == sorted(second) == sorted(case["case_id"] for case in datalist_of(scans) if case["fold"])
    assert first != second


def test_size_balanced_draws_differ_from_epoch_to_epoch(training, scans):
    first, second = epochs_of(training, "train.yaml", "size_balanced.yaml")
    training_side = {case["case_id"] for case in datalist_of(scans) if case["fold"]}
    assert len(first) == len(second) == len(training_side) > len(set(first))
    assert {*first, *second} <= training_side
    assert sorted(first) != sorted(second)


def test_two_processes_share_the_scans_of_uniform_sampling(scans, monkeypatch):
    """Without starting any: the sampler of each is made as if it were one of two."""
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        parser = parser_of("train.yaml", "multi_gpu_train.json")
        parser.update({"dataset_dir": str(scans), "cache_dir": "", "fold": 2})
        shares.append(list(parser.get_parsed_content("train#sampler")))
    assert sorted(shares[0] + shares[1]) == list(range(20))


def test_the_plain_classifier_computes_no_attention(training):
    _, get = training("train.yaml", "plain.yaml")
    batch = torch.rand(2, 1, *SMALL["grid"])
    assert set(get("network")(batch)) == {"logit"}
    assert set(training("train.yaml")[1]("network")(batch)) == {"logit", "attention"}
    prediction = {"logit": torch.zeros(2, 1)}
    assert get("loss")(prediction, {"label": torch.tensor([1, 0])}).item() == pytest.approx(0.6931, abs=1e-4)


def test_the_inference_network_takes_and_gives_what_the_metadata_say(tmp_path):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(BUNDLE.folder / "configs" / "metadata.json"),
        config_file=config_files("inference.json"),
        device="cpu",
        n=2,
        **as_text({**SMALL, "bundle_root": BUNDLE.folder}),
    )


def test_the_window_of_the_metadata_is_that_of_the_configs():
    metadata = json.loads((BUNDLE.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    low, high = as_without_card(parser_of("inference.json")["window_hu"])
    assert f"[{low}, {high}] HU" in metadata["image_classes"]


def test_the_labels_of_the_metadata_are_the_levels_of_the_config():
    metadata = json.loads((BUNDLE.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    levels_from = parser_of("inference.json")["levels_from"]
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert list(pred["channel_def"]) == [str(level) for level in range(len(levels_from) + 1)]
    assert pred["channel_def"]["0"] == "background"
    assert pred["value_range"] == [0, len(levels_from)]
    assert ", ".join(map(str, levels_from)) in metadata["pred_classes"]


def test_without_given_levels_the_transform_takes_those_of_the_config():
    assert list(LEVELS_FROM) == parser_of("inference.json")["levels_from"]
