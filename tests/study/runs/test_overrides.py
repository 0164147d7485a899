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
        (("inference.json",), {"grid", "network_def#alpha", "threshold"}),
    ],
)
def test_an_override_applies_to_the_runs_that_use_it_unless_an_overlay_sets_it(names, expected):
    verb = {"train.yaml": "training", "evaluate.yaml": "evaluating", "inference.json": "run"}
    chosen = overrides_for(GIVEN, paths("cap", *names), verb[[name for name in names if name in verb][-1]])
    assert chosen == {key: GIVEN[key] for key in expected}


def test_a_training_without_augmentation_keeps_its_one_draw():
    given = {"draws_per_image": 4, "train#random_transforms": ["x"]}
    assert overrides_for(given, paths("seg", "train.yaml"), "training") == given
    assert overrides_for(given, paths("seg", "train.yaml", "recipes/no_augmentation.yaml"), "training") == {}


def test_the_content_is_that_of_all_files_and_overrides():
    files = paths("cap", "train.yaml", "recipes/size_balanced.yaml", "recipes/last_weights.yaml")
    content = config_content(files, {"epochs": 3, "network_def#alpha": 50})
    assert content["train"]["sampler"]["_target_"] == "custom_components.SizeBalancedSampler"
    assert content["train"]["handlers"][-1]["path"] == "$@ckpt_dir + '/last.pt'"
    assert (content["epochs"], content["network_def"]["alpha"], content["lr_step"]) == (3, 50, 5)


def test_overrides_of_one_run_are_not_those_of_the_next():
    files = paths("cap", "train.yaml", "recipes/last_weights.yaml")
    before = config_content(files)
    config_content(files, {"epochs": 3, "network_def#alpha": 50})
    assert config_content(files) == before
    assert len(before["train"]["handlers"]) == len(config_content(files[:1])["train"]["handlers"]) + 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("epoch", "overrides sets 'epoch', but no config of the bundle has it. .*Some that can be set: .*epochs, "),
        ("fold", "overrides sets 'fold', but the study sets it in each run. Remove it"),
        ("ckpt_path", "but the study sets it in each run"),
    ],
)
def test_an_override_that_would_do_nothing_or_harm_is_refused(key, message):
    configs = [paths("cap", "train.yaml"), paths("cap", "evaluate.yaml")]
    check_overrides(GIVEN, configs)
    with pytest.raises(ValueError, match=message):
        check_overrides({**GIVEN, key: 1}, configs)


def test_knobs_are_plain_numbers_and_words():
    found = knobs(config_content(paths("seg", "train.yaml")))
    assert found["spatial_size"] == [369, 369]
    assert (found["amp"], found["epochs"], found["protocol"]) == (True, 100, "group")
    assert not {"device", "ckpt_dir", "network_def", "train", "run", "cases"} & set(found)
