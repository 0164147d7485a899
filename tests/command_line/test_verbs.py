"""Command line of the verbs: help without imports, options checked before any work, values as typed."""

import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib

import pytest
from custom_components import __version__
from custom_components.command_line.typed_words import OptionError
from custom_components.command_line.verbs import REQUIRED, VERBS, read_verb

from tests.bundles.conftest import ROOT
from tests.command_line.test_typed_words import ODD_NAMES

HEAVY = ("torch", "monai", "numpy", "scipy", "pandas", "matplotlib", "pydicom")
TAKES_MANY = ("diagnosis_table", "joined_scores")


def function_of(verb):
    module, _, name = VERBS[verb].rpartition(".")
    return getattr(importlib.import_module(f"custom_components.{module}"), name)


def words_for(verb):
    """Words for the required arguments of a verb."""
    return [f"no_{parameter.name}" for parameter in read_verb(verb).parameters if parameter.default is REQUIRED]


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_imports_no_heavy_library(words):
    code = (
        f"import json, runpy, sys; sys.argv[1:] = {words!r}; "
        "runpy.run_module('custom_components', run_name='__main__'); "
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_arguments_of_a_verb_are_those_of_its_function(verb):
    """The parsed source against the imported function."""
    parameters = {parameter.name: parameter for parameter in read_verb(verb).parameters}
    actual = inspect.signature(function_of(verb)).parameters
    assert set(parameters) == set(actual)
    for name, argument in actual.items():
        default = REQUIRED if argument.default is argument.empty else argument.default
        assert (parameters[name].default, parameters[name].many) == (default, argument.kind is argument.VAR_POSITIONAL)
        written = inspect.formatannotation(argument.annotation)
        assert parameters[name].type == re.sub(r"\b(pathlib\.(_local\.)?|collections\.abc\.|typing\.)", "", written)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_lists_arguments_and_defaults_without_markup(verb, command_line, capsys):
    assert command_line(verb, "--help") == 0
    shown = capsys.readouterr().out
    for parameter in read_verb(verb).parameters:
        is_option = parameter.default is not REQUIRED and not parameter.many
        assert (f"--{parameter.name}" if is_option else parameter.name.upper()) in shown
        if is_option and parameter.default not in (None, ""):
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert f"[default: {default}]" in shown
    assert not [mark for mark in ("``", ":func:", "Args:", "Raises:", "FIRE", "GROUP") if mark in shown]
    assert max(map(len, shown.splitlines())) <= 120


def test_the_overview_has_a_line_for_each_verb(command_line, capsys):
    assert command_line("--help") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown if line.startswith("  ")] == sorted(VERBS)


def test_without_a_verb_the_overview_is_shown_as_an_error(command_line, capsys):
    assert command_line() == 2
    assert "usage: custom_components COMMAND ..." in capsys.readouterr().err


def test_the_version_is_printed(command_line, capsys):
    assert command_line("--version") == 0
    assert capsys.readouterr().out == f"custom_components {__version__}\n"


def test_a_misspelt_verb_is_rejected_with_a_suggestion(command_line, caplog):
    assert command_line("diagnos", "a") == 2
    assert caplog.messages[-1] == "diagnos is not a command. Did you mean diagnose? --help lists the commands."


OPTIONS = [(verb, p.name) for verb in VERBS for p in read_verb(verb).parameters if not p.many]


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_a_misspelt_option_is_rejected_with_a_suggestion_before_anything_runs(
    verb, option, command_line, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(f"{name} imported"))
    wrong = option[0] + option[2:]
    assert command_line(verb, *words_for(verb), f"--{wrong}", "1") == 2
    assert caplog.messages[-1].startswith(f"--{wrong} is not an option of {verb}. Did you mean --{option}?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in TAKES_MANY])
@pytest.mark.parametrize("word", ["rmdir", "unlink", "exists"])
def test_an_extra_word_is_rejected(verb, word, command_line, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert command_line(verb, *words_for(verb), word) == 2
    assert caplog.messages[-1].startswith(f"{word!r} is not expected. Quote values that contain spaces.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in TAKES_MANY and words_for(verb)])
def test_a_missing_argument_is_named(verb, command_line, caplog):
    *given, last = words_for(verb)
    assert command_line(verb, *given) == 2
    assert caplog.messages[-1].startswith(f"{verb} needs {last.removeprefix('no_').upper()}. Expected: {verb} ")


def test_an_extra_word_is_not_the_value_of_a_switch_at_the_end():
    with pytest.raises(OptionError, match=r"^'a' is not expected"):
        read_verb("diagnose").arguments(["a", "b", "a", "--dicom"])


def test_a_verb_for_several_files_needs_at_least_one():
    with pytest.raises(OptionError, match=r"^diagnosis_table needs SUMMARIES. Expected: diagnosis_table SUMMARIES"):
        read_verb("diagnosis_table").arguments([])


def test_a_misspelt_option_without_a_verb_is_rejected_with_a_suggestion():
    with pytest.raises(OptionError, match=r"^--verison is not an option. Did you mean --version\?$"):
        read_verb("--verison")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_of_any_name_is_used_as_typed(name):
    verb = read_verb("diagnose")
    assert verb.arguments([name, f"--output_dir={name}", "--seg-weights", name])[1] == {
        "output_dir": name, "seg_weights": name, "scan": name,
    }  # fmt: skip
    assert read_verb("diagnosis_table").arguments([name, "b"]) == ([name, "b"], {})


def test_a_required_folder_may_be_named_none():
    verb = read_verb("diagnose")
    expected = {"cap_weights": None, "scan": "None", "output_dir": "b"}
    assert verb.arguments(["None", "b", "--cap_weights", "None"])[1] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("phantom_scans", "a", "--shape", "[96, 84, 40]"), {"folder": "a", "shape": [96, 84, 40]}),
        (("phantom_scans", "a", "--minority=1", "--seed", "-1"), {"folder": "a", "minority": 1, "seed": -1}),
        (("phantom_slices", "--folder", "a", "--num_patients=None"), {"folder": "a", "num_patients": None}),
        (("datasets",), {}),
        (("diagnose", "a", "b", "--dicom", "False"), {"scan": "a", "output_dir": "b", "dicom": False}),
        (("diagnose", "a", "b", "--dicom=false"), {"scan": "a", "output_dir": "b", "dicom": False}),
        (("diagnose", "--no-lesion_classes", "a", "b"), {"scan": "a", "output_dir": "b", "no_lesion_classes": True}),
        (("joined_scores", "a", "--resamples", "9"), {"resamples": 9}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_values_have_the_type_of_their_option(words, expected):
    assert read_verb(words[0]).arguments(words[1:])[1] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("phantom_slices", "a", "--seed", "x"), "seed is 'x'. Expected a whole number, such as --seed 0."),
        (("phantom_slices", "a", "--seed", "1.5"), "seed is '1.5'. Expected a whole number, such as --seed 0."),
        (("phantom_slices", "a", "--seed", "true"), "seed is 'true'. Expected a whole number, such as --seed 0."),
        (("phantom_slices", "a", "--size", "96"), "size is '96'. Expected a list, such as --size \"[192, 192]\"."),
        (("phantom_scans", "a", "--minority"), "--minority needs a value, such as --minority 0.3."),
        (("study", "b", "d", "o", "--overrides", "x"), "overrides is 'x'. Expected a mapping."),
        (("diagnose", "a", "b", "--dicom=no"), "dicom is 'no'. Expected True or False."),
        (("diagnose", "a", "b", "--dicom", "maybe"), "--dicom is 'maybe'. Expected True or False."),
        (("diagnose", "a", "b", "--seg_weights"), "--seg_weights needs a value."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_value_of_another_type_is_refused(words, message):
    with pytest.raises(OptionError) as caught:
        read_verb(words[0]).arguments(words[1:])
    assert str(caught.value) == message


def test_a_verb_runs_and_what_it_returns_is_printed(command_line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command_line("phantom_slices", "1e3", "--num_slices", "2", "--size", "[32, 34]") == 0
    assert capsys.readouterr().out == "1e3\n"
    assert (tmp_path / "1e3" / "images" / "001.png").is_file()


def test_a_verb_without_result_prints_nothing(command_line, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("custom_components.datasets.datalist.check_datalist", lambda **_: None)
    assert command_line("check_datalist", tmp_path) == 0
    assert capsys.readouterr().out == ""


def test_the_console_command_is_the_same_program(monkeypatch, capsys):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    ((name, place),) = scripts.items()
    module, _, function = place.partition(":")
    monkeypatch.setattr(sys, "argv", [f"/env/bin/{name}", "diagnose", "--help"])
    getattr(importlib.import_module(module), function)()
    assert capsys.readouterr().out.startswith(f"usage: {name} diagnose SCAN OUTPUT_DIR [options]\n")
