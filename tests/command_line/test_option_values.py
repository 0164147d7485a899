import pytest
from custom_components.command_line import bundle_command

from tests.command_line.test_bundle_command import CONFIGS, SEG


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("epochs", "None", "--epochs is None. Expected a number, such as 100."),
        ("fold", "true", "--fold is True. Expected a number, such as 0."),
        ("batch_size", "many", "--batch_size is 'many'. Expected a number, such as 8."),
        ("device", "cdua", "--device is 'cdua'. Expected cpu, cuda, or one of several such as cuda:1."),
        ("device", "true", "--device is True. Expected cpu, cuda, or one of several such as cuda:1."),
        ("output_dir", "None", "--output_dir is None. Expected a folder, or leave it out."),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_before_anything_runs(
    option, value, expected, bundle_line, tmp_path, caplog
):
    words = ["run", "training", "--config_file", CONFIGS["seg train"][0], "--logging_file=False"]
    places = [f"--dataset_dir={tmp_path}", f"--ckpt_dir={tmp_path / 'models'}"]
    assert bundle_line(*words, *places, f"--{option}", value) == 2
    assert caplog.messages[-1] == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("fold", None, None),
        ("epochs", "$2 * 3", 100),
        ("seed", None, 0),
        ("device", "cuda:1", "$x"),
        ("device", 0, "$x"),
        ("amp", True, False),
    ],
)
def test_a_value_that_may_be_meant_is_accepted(name, value, default):
    bundle_command.check_value(name, value, default)


@pytest.mark.parametrize("name", ["seg evaluate", "cap evaluate", "cap ensemble", "cap segment_evaluate"])
@pytest.mark.parametrize("option", ["epochs", "learning_rate", "ckpt_dir", "resume"])
def test_an_evaluation_refuses_an_option_of_the_training_alone(name, option, bundle_line, tmp_path, caplog):
    words = ["run", "evaluating", "--config_file", CONFIGS[name][-1], "--logging_file=False", "--dataset_dir=phantom"]
    if name == "cap ensemble":
        words[3] = str([str(file) for file in CONFIGS[name][1:]])
    assert bundle_line(*words, f"--output_dir={tmp_path / 'out'}", f"--{option}", "3") == 2
    files = ", ".join(file.name for file in CONFIGS[name])
    told = f"--{option} has no effect on `run evaluating` of {files}, only on the training. Leave it out."
    assert caplog.messages[-1] == told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("seg evaluate", {"bundle_root": str(SEG), "ckpt_path": "w.pt", "output_dir": "x"}),
        ("seg evaluate", {"seed": 3, "batch_size": 2, "spatial_size": [64, 64], "network_def#features": [8, 16]}),
        ("seg evaluate", {"flip_axes": [0], "fold": 2, "overlay_slices": 0, "validate#postprocessing": None}),
        ("cap evaluate", {"cache_dir": "x", "layers": [1, 1, 1, 1], "train#preprocessing": None, "system": "plain"}),
        ("cap segment_evaluate", {"window_overlap": 0.5, "tolerance_mm": {"lung": 1}, "num_workers": 1}),
    ],
)
def test_an_evaluation_takes_the_options_of_the_training_that_it_uses(name, options):
    words = ["evaluating", "--config_file", str([str(file) for file in CONFIGS[name]]), "--dataset_dir=phantom"]
    command = bundle_command.BundleCommand.read([*words, *(f"--{key}={value}" for key, value in options.items())])
    command.check()
