import logging
import sys

import pytest
import torch
from custom_components.data.ct_reader import CTReader
from custom_components.engines import root_cause as module
from custom_components.engines.root_cause import log_root_cause, root_cause
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import Lambdad


def refuse(path):
    raise ValueError(f"Case {path}: label has value 7.\nCheck the label export.")


def caught(action):
    with pytest.raises(Exception) as error:  # noqa: PT011
        action()
    return error.value


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_error_of_a_transform_is_found_also_in_the_text_of_a_worker(num_workers):
    loader = DataLoader(Dataset([{"image": "012"}], Lambdad("image", refuse)), num_workers=num_workers)
    assert root_cause(caught(lambda: list(loader))) == "Case 012: label has value 7.\nCheck the label export."
    assert root_cause(caught(lambda: list(loader)), "012") == "label has value 7.\nCheck the label export."


def test_the_error_of_a_config_is_found():
    parser = ConfigParser({"network": {"_target_": "custom_components.ResidualAttentionUNet", "encoder": "other"}})
    parser["run"] = "$@network.train()"
    assert root_cause(caught(lambda: parser.get_parsed_content("run"))).startswith("encoder must be one of resnext")


def test_what_a_library_said_does_not_hide_our_own_words(tmp_path):
    path = tmp_path / "012.png"
    path.write_bytes(b"no image")
    read = Lambdad("image", lambda image: CTReader().get_data((image,)))
    error = caught(lambda: list(Dataset([{"image": path}], read)))
    assert error.__cause__.__cause__ is not None
    assert root_cause(error).startswith("Case 012: 012.png is truncated or not a PNG file: ")


def test_an_error_that_is_no_sentence_gets_its_type():
    assert root_cause(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert root_cause(RuntimeError()) == "RuntimeError"


@pytest.fixture
def shown(monkeypatch):
    """What the excepthook of before was called with."""
    calls = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: calls.append(error))
    monkeypatch.setattr(module, "_shown_by", list(module._shown_by))
    return calls


def test_the_cause_is_logged_below_the_traceback(shown, caplog):
    log_root_cause()
    log_root_cause()
    error = RuntimeError("Failed to evaluate ConfigExpression")
    error.__cause__ = ValueError("Case 012: label has value 7.")
    sys.excepthook(RuntimeError, error, None)
    assert shown == [(RuntimeError, error, None)]
    assert caplog.record_tuples == [(module.__name__, logging.ERROR, "Case 012: label has value 7.")]


def test_an_interrupt_is_one_line_without_a_traceback(shown, caplog):
    log_root_cause()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert shown == []
    assert caplog.messages == ["Stopped. What is written is whole; a training goes on with --resume true."]


def test_one_of_several_processes_says_which_it_is(shown, caplog, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    log_root_cause()
    sys.excepthook(ValueError, ValueError("Case 012: label has value 7."), None)
    assert caplog.messages == ["Process 2 of 3: Case 012: label has value 7."]


def test_lack_of_memory_is_told_as_such():
    assert root_cause(torch.OutOfMemoryError("CUDA out of memory.")) == "CUDA out of memory."
