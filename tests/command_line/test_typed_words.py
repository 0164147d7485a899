import unicodedata
from pathlib import Path

import pytest
from custom_components.command_line.typed_words import did_you_mean, split_words, typed_path, typed_text, typed_value
from hypothesis import given
from hypothesis import strategies as st

# Names of folders that Fire reads as numbers, lists, other text or nothing.
ODD_NAMES = (
    *("2020.10", "1e3", "1_0", "a,b", "[a]", "(a)", "{a}", "007", "0x10", "1j", "True", "false", "...", "+5", "b'a'"),
    *("a#b", "scan #2", "new ", " old", "two words", "it's", "Müller", unicodedata.normalize("NFD", "Müller"), "ﬁle"),
    *("a\\b", "C:\\scans", "~a", "a~", "..", "../scans", "./None", "a=b", "100%", "me@home", "a$b", "@x"),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_path_is_used_as_typed(name):
    assert typed_path(name) == name


@given(st.text(min_size=1).filter(lambda text: text[0] not in "'\"~" and text not in ("None", "null")))
def test_any_text_is_used_as_typed(text):
    assert typed_text(text) == typed_path(text) == text


@given(st.text())
def test_quotes_are_removed(text):
    assert typed_text(repr(text)) == text


@pytest.mark.parametrize("word", ["None", "null"])
def test_a_word_for_nothing_is_none(word):
    assert (typed_text(word), typed_path(word), typed_value(word)) == (None, None, None)


def test_a_tilde_is_the_home_folder_unless_a_file_has_this_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert (typed_path("~"), typed_path("~/a b"), typed_path("~a/b")) == ("/home/me", "/home/me/a b", "~a/b")
    Path("~").mkdir()
    assert typed_path("~") == "~"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("True", True), ("FALSE", False), ("1e-3", 1e-3), ("12", 12), ("-1", -1), ("[8, 16]", [8, 16])],
)
def test_a_value_is_a_number_a_list_or_a_switch(text, value):
    assert typed_value(text) == value
    assert type(typed_value(text)) is type(value)


@pytest.mark.parametrize("word", ["none", "lsh", "trueish", "bfloat16"])
def test_any_other_word_stays_text(word):
    assert typed_value(word) == word


def test_an_option_takes_the_next_word_unless_it_is_an_option_or_has_a_value():
    words = ["run", "--a", "1", "--b=-2=3", "--c-d", "--e", "-4", "--f=", "end", "-g"]
    assert split_words(words) == (["run", "end"], {"a": "1", "b": "-2=3", "c_d": None, "e": "-4", "f": "", "g": None})


@pytest.mark.parametrize("word", ["yes", "No", "off", "1"])
def test_other_spellings_of_a_switch_are_kept_for_an_error(word):
    assert split_words(["--dry_run", word, "data"], ("dry_run",)) == (["data"], {"dry_run": word})


def test_a_switch_takes_only_true_and_false():
    words = ["--dry_run", "bundle", "--profile", "False", "data"]
    assert split_words(words, ("dry_run", "profile")) == (["bundle", "data"], {"dry_run": None, "profile": "False"})


def test_the_most_similar_name_is_suggested_if_there_is_one():
    assert did_you_mean("dataset_dri", ["ckpt_dir", "dataset_dir"]) == " Did you mean --dataset_dir?"
    assert did_you_mean("xyz", ["ckpt_dir", "dataset_dir"]) == ""
