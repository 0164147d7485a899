"""The command line of both bundles: unknown options are rejected, values are used as typed."""

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from custom_components.command_line import bundle_command
from custom_components.command_line.bundle_command import begin, command_words, in_language, with_base
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser, run

from tests.bundles.conftest import ROOT
from tests.command_line.test_typed_words import ODD_NAMES

SEG, CAP = ROOT / "covid_seg_bundle/configs", ROOT / "covid_cap_bundle/configs"
# Every config that runs something.
CONFIGS = {
    "seg train": (SEG / "train.yaml",),
    "seg multi-GPU": (SEG / "train.yaml", SEG / "multi_gpu_train.json"),
    "seg evaluate": (SEG / "train.yaml", SEG / "evaluate.yaml"),
    "seg inference": (SEG / "inference.json",),
    "cap train": (CAP / "train.yaml",),
    "cap multi-GPU": (CAP / "train.yaml", CAP / "multi_gpu_train.json"),
    "cap evaluate": (CAP / "train.yaml", CAP / "evaluate.yaml"),
    "cap ensemble": (CAP / "train.yaml", CAP / "evaluate.yaml", CAP / "ensemble.yaml"),
    "cap segment_train": (CAP / "segment_train.yaml",),
    "cap segment_evaluate": (CAP / "segment_train.yaml", CAP / "segment_evaluate.yaml"),
    "cap inference": (CAP / "inference.json",),
}
ONE_PROCESS = [name for name in CONFIGS if "GPU" not in name]
TRAIN = CONFIGS["seg train"]


@pytest.fixture
def typed(bundle_line, tmp_path, monkeypatch, capsys):
    """Value of an option when a config is run in an empty folder; the exit status if it is not 0."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def call(files: tuple[Path, ...], look: str, *words: object, overlay: Any = None) -> Any:
        probe = tmp_path / "probe.json"
        run_this = [{"_target_": "custom_components.begin"}, f"$print('arrived:', repr({look}))", "$@dataset_dir"]
        probe.write_text(json.dumps({**(overlay or {}), "probe": run_this}), encoding="utf-8")
        listed = str([str(file) for file in (*files, probe)])
        given = ("--config_file", listed, "--logging_file", "False", *words)
        data = () if any(str(word).startswith("--dataset_dir") for word in words) else ("--dataset_dir", "phantom")
        status = bundle_line("run", "probe", *given, *data)
        found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("arrived: ")]
        assert len(found) == (status == 0)
        return eval(found[0].removeprefix("arrived: ")) if found else status

    return call


def verb_of(name):
    return "run" if "inference" in name else "evaluating" if "eval" in name or "ensemble" in name else "training"


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_an_option_that_no_config_has_is_rejected_with_a_suggestion_before_anything_runs(
    name, bundle_line, tmp_path, caplog
):
    files = str([str(file) for file in CONFIGS[name]])
    folders = [f"--{key}={tmp_path / key}" for key in ("output_dir", "bundle_root")]
    words = ["run", verb_of(name), "--config_file", files, "--logging_file=False", "--dataset_dir=phantom", *folders]
    for wrong, right in (("dataset_dri", "dataset_dir"), ("ouput_dir", "output_dir"), ("devise", "device")):
        assert bundle_line(*words, f"--{wrong}", "cpu") == 2
        last = ", ".join(file.name for file in CONFIGS[name])
        assert caplog.messages[-1] == f"--{wrong} is not in {last}. Did you mean --{right}?"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ONE_PROCESS)
def test_a_folder_is_used_in_every_config_as_typed(name, typed):
    third = "ckpt_path" if "eval" in name else "bundle_root"
    words = ("--dataset_dir", "2020.10", "--output_dir=a,b", f"--{third}", "1e3")
    assert typed(CONFIGS[name], f"[@dataset_dir, @output_dir, @{third}]", *words) == ["2020.10", "a,b", "1e3"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_of_any_name_is_used_as_typed(name, typed):
    words = (f"--dataset_dir={name}", "--ckpt_dir", name, f"--init_path={name}")
    assert typed(TRAIN, "[@dataset_dir, @ckpt_dir, @init_path]", *words) == [name] * 3


def test_values_derived_from_a_folder_use_it_too(typed):
    assert typed(TRAIN, "@ckpt_dir", "--bundle_root", "1_0") == "1_0/models/trained"
    assert typed(TRAIN, "@train#handlers#10#path", "--ckpt_dir=a#b") == "a#b/model.pt"


@pytest.mark.parametrize("option", ["train#handlers#10#path", "validate#best_model#filename"])
def test_files_inside_a_component_are_used_as_typed(option, typed):
    assert typed(TRAIN, f"@{option}", f"--{option}", "1e3") == "1e3"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("True", True), ("false", False), ("False", False), ("None", None), ("null", None)],
)
def test_switches_and_none_are_used_at_every_depth(text, value, typed):
    looks = {"amp": "@amp", "own": "@own", "network_def#zero_init_attention": "@probed"}
    overlay = {"own": "$5", "probed": "%network_def#zero_init_attention", "network_def#zero_init_attention": "$5"}
    for option, look in looks.items():
        assert typed(TRAIN, look, f"--{option}", text, overlay=overlay) is value


def test_a_switch_without_a_value_is_on_also_when_it_begins_with_no(typed):
    assert typed(CONFIGS["cap train"], "[@no_max_pool, @resume]", "--no_max_pool", "--resume") == [True, True]


@pytest.mark.parametrize("device", ["cpu", "meta", "$torch.device('cpu')"])
@pytest.mark.parametrize("name", ONE_PROCESS)
def test_a_device_may_be_a_word(name, device, typed):
    config = ConfigParser(ConfigParser.load_config_files([str(file) for file in CONFIGS[name]]))
    ids = ("train#trainer#amp", "validate#evaluator#amp", "evaluator#amp", "on_gpu")
    amp = [f"@{one}" for one in ids if one in config]
    assert amp
    assert typed(CONFIGS[name], f"[{', '.join(amp)}]", "--device", device) == [False] * len(amp)


def test_numbers_lists_and_words_are_parsed(typed):
    words = ("--learning_rate", "1e-3", "--spatial_size", "[64, 48]", "--protocol", "paper", "--fold=3", "--seed", "-1")
    look = "[@learning_rate, @spatial_size, @protocol, @fold, @seed]"
    assert typed(TRAIN, look, *words) == [1e-3, [64, 48], "paper", 3, -1]


def test_a_word_stays_a_word_and_quotes_are_removed(typed):
    overlay = {"found": "%network_def#attention"}
    assert typed(TRAIN, "@found", "--network_def#attention", "none", overlay=overlay) == "none"
    assert typed(TRAIN, "@output_dir", "--output_dir", "'2020.10'") == "2020.10"


def test_expressions_and_references_are_resolved_unless_a_folder_has_that_name(typed):
    assert typed(TRAIN, "@output_dir", "--output_dir", "$@ckpt_dir + '/x'", "--ckpt_dir", "1e3") == "1e3/x"
    assert typed(TRAIN, "@output_dir", "--output_dir", "@ckpt_dir", "--ckpt_dir", "1e3") == "1e3"
    Path("$scans").mkdir()
    assert typed(TRAIN, "@dataset_dir", "--dataset_dir", "$scans") == "$scans"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train#trainer#max_epochs", "3"),
        ("network_def#features", "[8,16]"),
        ("optimizer#betas", "[0.8, 0.9]"),
        ("loss#weight", "[0.1, 1, 1, 1]"),
        ("init_own", "output"),
        ("cases#_disabled_", "True"),
        ("only_here", "2"),
        ("only#here", "2"),
    ],
)
def test_ids_inside_a_component_and_of_an_overlay_are_known(option, value, typed):
    assert typed(TRAIN, "@seed", f"--{option}", value, overlay={"only_here": 1, "only": {"here": 1}}) == 0


def test_an_id_that_a_config_only_refers_to_is_known(typed):
    """An overlay may leave a value to the command line."""
    assert typed(TRAIN, "@here", "--place", "here", overlay={"here": "$@place + '/a'"}) == "here/a"


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("network_def#featurs", " Did you mean --network_def#features?"),
        ("optimizer#betta", " Did you mean --optimizer#betas?"),
        ("train#trainer#max_epoch", " Did you mean --train#trainer#max_epochs?"),
        ("xyz", " It has imports, bundle_root, dataset_dir, ckpt_dir"),
    ],
)
def test_unknown_arguments_of_a_component_are_rejected(option, near, typed, caplog):
    assert typed(TRAIN, "@seed", f"--{option}", "1") == 2
    assert caplog.messages[-1].startswith(f"--{option} is not in train.yaml, probe.json.{near}")


def test_the_arguments_are_those_of_the_chosen_component(typed, caplog):
    chosen = ("--optimizer#momentum", "0.9", "--optimizer#_target_", "torch.optim.SGD")
    assert typed(TRAIN, "@seed", *chosen) == 0
    assert typed(TRAIN, "@seed", *chosen[:2]) == 2


def test_an_args_file_is_checked_and_the_command_line_overrides_it(bundle_line, typed, tmp_path, caplog, capsys):
    args = tmp_path / "args.yaml"
    args.write_text(yaml.safe_dump({"epochs": 7, "seed": 5, "output_dir": "1e3"}), encoding="utf-8")
    look = "[@epochs, @seed, @output_dir]"
    assert typed(TRAIN, look, "--args_file", args, "--seed", "6", "--amp", "false") == [7, 6, "1e3"]
    args.write_text(yaml.safe_dump({"epcohs": 7}), encoding="utf-8")
    assert typed(TRAIN, "@seed", "--args_file", args) == 2
    assert caplog.messages[-1].endswith("Did you mean --epochs?")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_begins_with_the_check(name):
    content = ConfigParser.load_config_files([str(file) for file in CONFIGS[name]])
    assert content[verb_of(name)][0]["_target_"] == "custom_components.begin"
    assert content["run"] in (content[verb_of(name)], f"%{verb_of(name)}", f"@{verb_of(name)}")


def test_an_extra_word_is_rejected(bundle_line, tmp_path, caplog):
    words = ("run", "training", "--config_file", TRAIN[0], "--logging_file=False", "--dataset_dir=phantom")
    assert bundle_line(*words, "--spatial_size", "[64,", "64]", f"--output_dir={tmp_path}/out") == 2
    assert caplog.messages[-1].startswith("'64]' belongs to no option. Quote values that contain spaces")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ONE_PROCESS)
@pytest.mark.parametrize("words", [(), ("--dataset_dir=None",)], ids=["missing", "None"])
def test_without_data_nothing_runs(name, words, bundle_line, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = str([str(file) for file in CONFIGS[name]])
    assert bundle_line("run", verb_of(name), "--config_file", files, "--logging_file=False", *words) == 2
    assert caplog.messages[-1].startswith("dataset_dir is missing. Set --dataset_dir /path/to/data, or")
    assert list(tmp_path.iterdir()) == []


def test_lists_of_cases_from_an_overlay_are_data(typed):
    """As MONAI Label writes them for several GPUs."""
    lists = {"dataset_dir": None, "train#dataset#data": [{"image": "a"}], "validate#dataset#data": []}
    assert typed(TRAIN, "@seed", "--dataset_dir=None", overlay=lists) == 0


def test_options_of_monai_itself_are_known(typed, tmp_path):
    assert typed(TRAIN, "@seed", "--workflow_type", "train", "--meta_file", SEG / "metadata.json") == 0


def test_names_of_the_tracking_are_known_when_it_is_on(typed, caplog, monkeypatch):
    settings = {"configs": {"run_name": None, "trainer": {}}, "handlers_id": {"trainer": {"id": "none"}}}
    path = Path("tracking.json")
    path.write_text(json.dumps(settings), encoding="utf-8")
    tracked = ("--tracking", path, "--run_name", "2020.10", "--save_execute_config", "used.json")
    assert typed(TRAIN, "@run_name", *tracked) == "2020.10"
    assert typed(TRAIN, "@seed", "--run_name", "2020.10") == 2


def test_a_repeated_tracked_run_writes_a_single_config_with_its_own_values(typed):
    settings = {"configs": {"run_name": None}, "handlers_id": {}}
    Path("tracking.json").write_text(json.dumps(settings), encoding="utf-8")
    words = ("--tracking", "tracking.json", "--output_dir=out", "--run_name", "1e3", "--amp", "false")
    assert typed(TRAIN, "@run_name", *words) == "1e3"
    (kept,) = Path("out").iterdir()
    used = json.loads(kept.read_text(encoding="utf-8"))
    assert (used["run_name"], used["amp"], used["output_dir"]) == ("1e3", False, "out")


@given(st.text())
def test_monai_returns_any_encoded_text_unchanged(text):
    parser = ConfigParser({"text": in_language(text), "joined": "$@text + '/a'"})
    assert parser.get_parsed_content("text") == text
    assert parser.get_parsed_content("joined") == f"{text}/a"


def test_other_programs_are_not_checked(monkeypatch, tmp_path):
    """MONAI Label and MONAI Deploy run bundles in their own processes, with their own arguments."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["monailabel", "run", "--dataset_dri", "x"])
    assert command_words() is None
    begin()
    monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "ckpt_export", "--ckpt", "x"])
    assert command_words() is None
    overlay = tmp_path / "probe.json"
    overlay.write_text(json.dumps({"probe": [{"_target_": "custom_components.begin"}]}), encoding="utf-8")
    run(run_id="probe", config_file=[str(TRAIN[0]), str(overlay)], logging_file=False)


def test_flags_of_fire_are_not_options_of_the_config(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "run", "training", "--a", "1", "--", "--trace"])
    assert command_words() == ["training", "--a", "1"]


def test_messages_about_the_gpu_decoder_are_hidden(typed, caplog, recwarn):
    warnings.simplefilter("always")
    overlay = {"load": [{"_target_": "LoadImaged", "keys": "image"} for _ in range(6)]}
    assert typed(TRAIN, "[@load, @seed][1]", "--amp", "false", overlay=overlay) == 0
    assert [text for text in caplog.messages if "nvImageCodec" in text] == []
    assert [warning for warning in recwarn if "nvImageCodec" in str(warning.message)] == []


def test_only_a_command_that_fire_reads_differently_is_run_again(typed, monkeypatch):
    again = []
    monkeypatch.setattr(bundle_command, "run", lambda **_: again.append(1))
    assert typed(TRAIN, "@seed", "--epochs", "3") == 0
    assert again == []


def configs_in(folder: Path) -> tuple[Path, Path]:
    """A training, and an evaluation on top of it that has no entry of its own for the seed."""
    begin_it = {"_target_": "custom_components.begin"}
    base = {"seed": 4, "dataset_dir": "x", "initialize": ["$print('initialized:', @seed)"]}
    top = {"on_top_of": "base.json", "fold": None, "probe": [begin_it, "$print('arrived: ', repr([@seed, @fold]))"]}
    for name, content in {"base.json": base, "top.json": top}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder / "base.json", folder / "top.json"


@pytest.mark.parametrize("both", [True, False])
def test_a_config_on_top_of_another_is_combined_with_it_even_if_given_alone(bundle_line, tmp_path, capsys, both):
    base, top = configs_in(tmp_path)
    listed = str([str(base), str(top)]) if both else top
    assert bundle_line("run", "probe", "--config_file", listed, "--logging_file=False", "--fold", "2") == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("initialized", "arrived"))]
    assert printed == ["initialized: 4", "arrived:  [4, 2]"]


def test_an_option_in_neither_of_two_configs_is_rejected(bundle_line, tmp_path, caplog):
    _, top = configs_in(tmp_path)
    assert bundle_line("run", "probe", "--config_file", top, "--logging_file=False", "--sed", "2") == 2
    assert caplog.messages[-1] == "--sed is not in base.json, top.json. Did you mean --seed?"


def test_a_missing_base_config_is_added(tmp_path):
    base, top = map(str, configs_in(tmp_path))
    assert list(with_base([top])) == [base, top]
    assert list(with_base([base, top])) == [base, top]
    assert list(with_base([base])) == [base]


def test_each_config_file_is_read_once(tmp_path, monkeypatch):
    reads: Counter = Counter()
    load = ConfigParser.load_config_file

    def counted(file: str) -> dict[str, Any]:
        reads[Path(file).name] += 1
        return load(file)

    monkeypatch.setattr(ConfigParser, "load_config_file", counted)
    monkeypatch.setattr(bundle_command, "run", lambda **_: None)
    words = ["probe", "--config_file", str(configs_in(tmp_path)[1]), "--fold", "2"]
    command = bundle_command.BundleCommand.read(words)
    command.check()
    with pytest.raises(SystemExit):
        bundle_command._run(command)
    assert reads == {"base.json": 1, "top.json": 1}


def test_the_old_name_of_an_overlay_causes_a_warning(typed, caplog):
    assert typed((*TRAIN, SEG / "unet.yaml"), "@network_def#encoder", overlay={}) is not None
    (warning,) = [text for text in caplog.messages if "has moved" in text]
    assert warning.startswith(f"{SEG / 'unet.yaml'} has moved: use {SEG / 'networks/unet.yaml'}. ")
    caplog.clear()
    typed((*TRAIN, SEG / "networks/unet.yaml"), "@seed")
    assert [text for text in caplog.messages if "has moved" in text] == []


@pytest.mark.parametrize("bundle", [SEG, CAP], ids=["seg", "cap"])
def test_every_overlay_has_its_old_name_too_as_a_file_that_needs_no_links(bundle):
    new = {"body_and_lungs.yaml", "three_classes.yaml", "shards.yaml"}
    overlays = [path for path in bundle.glob("*/*.yaml") if path.name not in new]
    assert overlays
    for path in overlays:
        assert (bundle / path.name).read_bytes() == path.read_bytes()
        assert not (bundle / path.name).is_symlink()


def test_a_run_removes_the_folders_that_it_created_and_did_not_use(tmp_path, monkeypatch):
    at_the_end = []
    monkeypatch.setattr(bundle_command.atexit, "register", lambda *call: at_the_end.append(call))
    (tmp_path / "before").mkdir()
    begin(output_dir=tmp_path / "out", ckpt_dir=tmp_path / "models")
    begin(output_dir=tmp_path / "before")
    (tmp_path / "models" / "model.pt").write_bytes(b"weights")
    for function, *arguments in at_the_end:
        function(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "models"]


def test_given_switches_and_folders_are_checked(tmp_path):
    with pytest.raises(ValueError, match="amp is the word 'false'"):
        begin(switches={"amp": "false"}, output_dir=tmp_path / "out")
    with pytest.raises(ValueError, match="resume is the word 'no'"):
        begin(ckpt_dir=tmp_path / "out", resume="no")
    assert list(tmp_path.iterdir()) == []
    begin(switches={"amp": True}, output_dir=tmp_path / "out", ckpt_dir=tmp_path / "models")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "out"]
