import pytest
from custom_components.study.runs.overrides import check_overrides, config_content, knobs, overrides_for

from tests.bundles.conftest import ROOT

GIVEN = {
    "epochs": 3,
    "grid": [24, 56, 48],
    "attention_weight": 0.3,
    "network_def#alpha": 50,
    "optimizer#betas": [0.8, 0.9],
    "threshold": 0.4,
    "cache_dir": "/cache",
}


def paths(bundle: str, *names: str) -> list[str]:
    return [str(ROOT / f"covid_{bundle}_bundle" / "configs" / name) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train.yaml",), {"epochs", "grid", "attention_weight", "network_def#alpha", "optimizer#betas"}),
        (
            ("train.yaml", "networks/plain.yaml", "recipes/last_weights.yaml"),
            {"epochs", "grid", "network_def#alpha", "optimizer#betas"},
        ),
        (("train.yaml", "evaluate.yaml"), {"grid", "network_def#alpha", "threshold"}),
        (("inference.json",), {"grid", "threshold"}),
    ],
)
def test_an_override_applies_to_the_runs_that_use_it_unless_an_overlay_sets_it(names, expected):
    verb = {"train.yaml": "training", "evaluate.yaml": "evaluating", "inference.json": "run"}
    chosen = overrides_for(GIVEN, paths("cap", *names), verb[[name for name in names if name in verb][-1]])
    assert chosen == {key: GIVEN[key] for key in expected}


def test_a_training_without_augmentation_keeps_one_draw_per_image():
    given = {"draws_per_image": 4, "train#random_transforms": ["x"]}
    assert overrides_for(given, paths("seg", "train.yaml"), "training") == given
    assert overrides_for(given, paths("seg", "train.yaml", "recipes/no_augmentation.yaml"), "training") == {}


def test_overrides_of_one_run_do_not_change_the_next():
    files = paths("cap", "train.yaml", "recipes/last_weights.yaml")
    before = config_content(files)
    content = config_content(files, {"epochs": 3, "network_def#alpha": 50})
    assert (content["epochs"], content["network_def"]["alpha"], content["lr_step"]) == (3, 50, 5)
    assert config_content(files) == before
    assert len(before["train"]["handlers"]) == len(config_content(files[:1])["train"]["handlers"]) + 1


CONFIGS = [(paths("cap", "train.yaml"), "training"), (paths("cap", "train.yaml", "evaluate.yaml"), "evaluating")]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epoch", "overrides sets 'epoch', but no config of the bundle has it. Did you mean epochs?"),
        ("fold", "overrides sets 'fold', which the study or the config itself sets. Remove it"),
        ("ckpt_path", "which the study or the config itself sets"),
        ("on_top_of", "which the study or the config itself sets"),
        ("network_def::depth", "'network_def::depth', but no run of this study has it. Check the name, or remove"),
    ],
)
def test_an_override_without_effect_or_reserved_for_the_study_is_refused(key, message):
    check_overrides(GIVEN, CONFIGS)
    with pytest.raises(ValueError, match=message):
        check_overrides({**GIVEN, key: 1}, CONFIGS)


def test_only_settings_of_the_user_are_listed_as_allowed():
    with pytest.raises(ValueError, match="Some that can be set:") as caught:
        check_overrides({"xyz": 1}, CONFIGS)
    listed = str(caught.value).split("Some that can be set: ")[1].rstrip(".").split(", ")
    assert {"epochs", "grid", "threshold", "norm_batches"} < set(listed)
    assert not {"is_not_rank0", "on_top_of", "outputs", "system", "fold", "resume"} & set(listed)


@pytest.mark.parametrize(
    ("key", "networks"),
    [
        ("network_def::features", ["m", "unet"]),
        ("network_def::backbone", ["flexible_unet"]),
        ("network_def::spatial_dims", ["m", "unet", "flexible_unet"]),
        ("network_def::depth", []),
    ],
)
def test_an_argument_reaches_the_networks_that_have_it(key, networks):
    overlays = {"m": [], "unet": ["networks/unet.yaml"], "flexible_unet": ["networks/flexible_unet.yaml"]}
    for own, verb in ((["train.yaml"], "training"), (["train.yaml", "evaluate.yaml"], "evaluating")):
        chosen = [name for name, files in overlays.items() if overrides_for({key: 1}, paths("seg", *own, *files), verb)]
        assert chosen == networks


def test_knobs_are_plain_numbers_and_words():
    found = knobs(config_content(paths("seg", "train.yaml")))
    assert found["spatial_size"] == [369, 369]
    assert (found["amp"], found["epochs"], found["protocol"]) == (True, 100, "group")
    assert not {"device", "ckpt_dir", "network_def", "train", "run", "cases"} & set(found)
