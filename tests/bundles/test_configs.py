"""What holds in every shipped config of both bundles."""

from pathlib import Path
from typing import Any

import pytest
from custom_components.weights.model_card import write_card
from monai.bundle import ConfigParser

from tests.bundles.cap.conftest import BUNDLE as CAP
from tests.bundles.conftest import Bundle, check_overlay, check_phrases, check_targets, nodes
from tests.bundles.seg.conftest import BUNDLE as SEG
from tests.bundles.small_runs import SUBJECTS

SEG_NETWORKS = ("no_attention.yaml", "no_resnext.yaml", "unet.yaml", "full_attention.yaml", "flexible_unet.yaml")
SEG_RECIPES = ("strong_augmentation.yaml", "dice_cross_entropy.yaml", "cosine_schedule.yaml", "lesion_patches.yaml")
SEG_OVERLAYS = (
    *SEG_NETWORKS, *SEG_RECIPES, "body_and_lungs.yaml", "no_augmentation.yaml", "add_attention.yaml", "new_output.yaml",
    "contrast_augmentation.yaml", "mild_augmentation.yaml", "all_cases.yaml", "last_weights.yaml",
)  # fmt: skip
CAP_OVERLAYS = ("size_balanced.yaml", "plain.yaml", "last_weights.yaml", "three_classes.yaml")
TRAININGS = [
    *(("cap", names) for names in (("train.yaml",), *(("train.yaml", overlay) for overlay in CAP_OVERLAYS))),
    *(("seg", names) for names in (("train.yaml",), *(("train.yaml", overlay) for overlay in SEG_OVERLAYS))),
    ("cap", ("train.yaml", "size_balanced.yaml", "three_classes.yaml")),
    ("seg", ("train.yaml", *SEG_RECIPES, "last_weights.yaml")),
]
APPLICATIONS = [
    *(("cap", names) for names in (("evaluate.yaml",), ("evaluate.yaml", "ensemble.yaml"), ("inference.json",))),
    ("cap", ("evaluate.yaml", "three_classes.yaml")),
    *(("seg", names) for names in (("evaluate.yaml",), ("inference.json",))),
    *(("seg", (base, network)) for base in ("evaluate.yaml", "inference.json") for network in SEG_NETWORKS),
]
MULTI_GPU = [
    ("cap", ("train.yaml", "size_balanced.yaml", "multi_gpu_train.json")),
    ("seg", ("train.yaml", "multi_gpu_train.json")),
]
SHARDS = [("cap", ("train.yaml", "size_balanced.yaml", "shards.yaml"))]  # made and run in test_shards.py
SEGMENT = [("cap", ("segment_train.yaml",)), ("cap", ("segment_evaluate.yaml",))]  # made and run in test_segment.py
ON_TOP = [
    (CAP, "train.yaml", "evaluate.yaml"),
    (CAP, "segment_train.yaml", "segment_evaluate.yaml"),
    (SEG, "train.yaml", "evaluate.yaml"),
]
# What an overlay may add to the config below it, by the end of its name.
NEW = {
    "ensemble.yaml": (
        "_ckpt_path", "model_path", "weights", "model_card", "ratio_thresholds", "branch_def", "#prepare_batch",
    ),
    "multi_gpu_train.json": ("#sampler", "finalize"),
    "shards.yaml": ("#settings", "#folder"),
    "add_attention.yaml": ("#zero_init_attention",),
    "lesion_patches.yaml": ("patch_size", "#sampler"),
}  # fmt: skip


def name_of(value: Any) -> str | None:
    if isinstance(value, Bundle):
        return value.folder.name
    return " ".join(value) if isinstance(value, tuple) else None


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, Path]:
    """A data set for each bundle."""
    folder = tmp_path_factory.mktemp("sets")
    return {name: subject.write_data(folder / name) for name, subject in SUBJECTS.items()}


def options_of(name: str, names: tuple[str, ...]) -> dict[str, Any]:
    """What makes the network small, where it is ours."""
    return {"spatial_size": [64, 64]} if "flexible_unet.yaml" in names else SUBJECTS[name].bundle.small


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_shipped_config_is_tested_here(name):
    everything = (*TRAININGS, *APPLICATIONS, *MULTI_GPU, *SHARDS, *SEGMENT)
    tested = {config for bundle, names in everything if bundle == name for config in names}
    shipped = {path.name for path in (SUBJECTS[name].bundle.folder / "configs").rglob("*") if path.is_file()}
    assert shipped - tested == {"logging.conf", "metadata.json", "onnx_export.yaml"}  # the last in test_export.py


@pytest.mark.parametrize(("name", "names"), [*TRAININGS, *APPLICATIONS, *MULTI_GPU, *SHARDS, *SEGMENT], ids=name_of)
def test_every_target_can_be_located_and_every_expression_is_a_phrase(name, names):
    parser = SUBJECTS[name].bundle.parser_of(*names)
    check_targets(parser)
    check_phrases(parser)


@pytest.mark.parametrize(("name", "names"), TRAININGS, ids=name_of)
def test_a_training_is_made_and_has_all_properties(data, tmp_path, name, names):
    subject = SUBJECTS[name]
    folders = {"dataset_dir": data[name], "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    given = {**options_of(name, names), **subject.training, **folders}
    workflow = subject.bundle.workflow(*names, **given, **({"cache_rate": 0.0} if name == "seg" else {}))
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.trainer.network is workflow.evaluator.network
    assert workflow.trainer.optimizer.param_groups[0]["params"][0] is next(workflow.trainer.network.parameters())


@pytest.mark.parametrize(("name", "names"), APPLICATIONS, ids=name_of)
def test_an_evaluation_or_inference_is_made_and_has_all_properties(data, tmp_path, name, names):
    own = {"cache_dir": "", **({"fold": 0} if "evaluate.yaml" in names else {})} if name == "cap" else {}
    given = {**options_of(name, names), **own, "dataset_dir": data[name], "output_dir": tmp_path / "eval"}
    workflow = SUBJECTS[name].bundle.workflow(*names, workflow_type="infer", **given)
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.evaluator.network is workflow.parser.get_parsed_content("network")


@pytest.mark.parametrize("name", SUBJECTS)
def test_settings_unlike_those_of_the_training_are_in_the_json_of_each_case(data, tmp_path, name):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    write_card(weights, {"settings": {"window_hu": [-1000, 0]}})
    given = {"dataset_dir": data[name], "output_dir": tmp_path / "out", "ckpt_path": weights}
    for window_hu, notes in (
        ([-1000, 0], ()),
        ([-900, 0], ("window_hu is [-900, 0]; the weights were trained with [-1000, 0].",)),
    ):
        bundle = SUBJECTS[name].bundle
        workflow = bundle.workflow("inference.json", workflow_type="infer", window_hu=window_hu, **given)
        workflow.initialize()
        files = workflow.parser.get_parsed_content("handlers")[-1]
        assert (type(files).__name__.endswith("CaseFiles"), files.notes) == (True, notes)


def test_a_property_of_another_name_would_be_noticed(data, tmp_path):
    workflow = SEG.workflow("evaluate.yaml", workflow_type="infer", dataset_dir=data["seg"], output_dir=tmp_path)
    workflow.parser["evaluator::postprocessing"] = "@preprocessing"
    workflow.initialize()
    assert workflow.check_properties() == ["postprocessing"]


@pytest.mark.parametrize(("bundle", "below", "top"), ON_TOP, ids=name_of)
def test_an_evaluation_never_repeats_the_training_that_it_is_on_top_of(bundle, below, top):
    train, evaluate = map(ConfigParser.load_config_file, bundle.config_files(top))
    assert bundle.config_files(top)[0].endswith(below)
    assert {key for key, value in evaluate.items() if value == train.get(key)} == {"bundle_root"}


@pytest.mark.parametrize(("bundle", "below", "top"), ON_TOP, ids=name_of)
def test_a_card_has_all_that_an_evaluation_asks_of_it(bundle, below, top):
    asked = {name for name, value in bundle.parser_of(top).get().items() if "trained.get(" in str(value)}
    parser = bundle.parser_of(below)
    settings = parser["model_card"]["settings"]
    assert asked == set(parser["settings"] if settings == "@settings" else settings)


@pytest.mark.parametrize(
    ("bundle", "below", "overlay"),
    [
        *((CAP, "train.yaml", overlay) for overlay in (*CAP_OVERLAYS, "shards.yaml", "multi_gpu_train.json")),
        (CAP, "evaluate.yaml", "ensemble.yaml"),
        *((SEG, "train.yaml", overlay) for overlay in (*SEG_OVERLAYS, "multi_gpu_train.json")),
    ],
    ids=name_of,
)
def test_an_overlay_overrides_and_never_repeats(bundle, below, overlay):
    content = ConfigParser.load_config_file(bundle.config_files(overlay)[-1])
    check_overlay(bundle.parser_of(below), content, NEW.get(overlay, ()))


@pytest.mark.parametrize(("bundle", "referred"), [(CAP, {"%branch_def"}), (SEG, set())], ids=name_of)
def test_the_inference_config_stands_alone(bundle, referred):
    strings = [node for node in nodes(bundle.parser_of("inference.json").get()) if isinstance(node, str)]
    assert {text for text in strings if text.startswith("%")} == referred
    assert not [text for text in strings if "_meta_" in text]
