import logging
import sys

import pytest
from custom_components.datalists.slices import list_cases
from custom_components.engines import root_cause as module
from custom_components.engines.root_cause import TRACEBACK_VARIABLE, is_for_people, log_root_cause, root_cause
from custom_components.images.ct_reader import CTReader
from ignite.engine import Engine
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
def test_the_error_of_a_transform_is_found_even_in_the_text_of_a_worker_process(num_workers):
    loader = DataLoader(Dataset([{"image": "012"}], Lambdad("image", refuse)), num_workers=num_workers)
    assert root_cause(caught(lambda: list(loader))) == "Case 012: label has value 7.\nCheck the label export."
    assert root_cause(caught(lambda: list(loader)), "012") == "label has value 7.\nCheck the label export."


def test_the_error_of_a_config_is_found():
    parser = ConfigParser({"network": {"_target_": "custom_components.ResidualAttentionUNet", "encoder": "other"}})
    parser["run"] = "$@network.train()"
    assert root_cause(caught(lambda: parser.get_parsed_content("run"))).startswith("encoder must be one of resnext")


def test_other_errors_are_shown_with_their_type():
    assert root_cause(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert root_cause(RuntimeError()) == "RuntimeError"


@pytest.fixture
def shown(monkeypatch):
    """Calls of the earlier excepthook."""
    calls = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: calls.append(error))
    return calls


def test_the_cause_is_logged_below_the_traceback(shown, caplog):
    log_root_cause()
    log_root_cause()
    error = RuntimeError("Failed to evaluate ConfigExpression")
    error.__cause__ = ValueError("Case 012: label has value 7.")
    sys.excepthook(RuntimeError, error, None)
    assert shown == [(RuntimeError, error, None)]
    assert caplog.record_tuples == [(module.__name__, logging.ERROR, "Case 012: label has value 7.")]


def test_the_copies_of_ignite_are_left_out(shown, caplog):
    def fails(*_):
        raise ValueError("Case 012: label has value 7.")

    log_root_cause()
    caplog.set_level(logging.INFO)
    with pytest.raises(ValueError, match="label has value 7"):
        Engine(fails).run([0])
    assert "Engine run starting" in caplog.text
    assert "label has value 7" not in caplog.text


def wrapped(cause: Exception) -> Exception:
    error = RuntimeError("Failed to instantiate component 'custom_components.list_cases'")
    error.__cause__ = cause
    return error


def ours() -> Exception:
    return wrapped(caught(lambda: list_cases("/nowhere")))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_message_of_this_package_is_enough_through_all_wrappers_and_workers(tmp_path, num_workers):
    path = tmp_path / "012.png"
    path.write_bytes(b"no image")
    read = Lambdad("image", lambda image: CTReader().get_data((image,)))
    loader = DataLoader(Dataset([{"image": path}], read), num_workers=num_workers)
    error = caught(lambda: list(loader))
    assert num_workers or error.__cause__.__cause__ is not None
    assert is_for_people(error)
    assert root_cause(error).startswith("Case 012: 012.png is truncated or not a PNG file: ")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_message_of_other_code_is_not_enough(num_workers):
    loader = DataLoader(Dataset([{"image": "012"}], Lambdad("image", refuse)), num_workers=num_workers)
    assert not is_for_people(caught(lambda: list(loader)))
    assert not is_for_people(wrapped(KeyError("label")))
    assert not is_for_people(ValueError("never raised"))


def test_a_message_about_the_machine_is_enough():
    assert is_for_people(wrapped(FileNotFoundError(2, "No such file or directory", "/a")))
    assert is_for_people(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))


def test_on_a_command_line_a_message_that_is_enough_is_shown_without_traceback(shown, caplog):
    log_root_cause(one_line=True)
    error = ours()
    sys.excepthook(type(error), error, None)
    assert shown == []
    assert caplog.record_tuples == [
        (module.__name__, logging.ERROR, "Data set /nowhere does not exist. Check dataset_dir.")
    ]


@pytest.mark.parametrize(
    ("one_line", "variable", "error"),
    [(True, "1", ours()), (False, "", ours()), (True, "", KeyError("case_id"))],
    ids=["asked for", "library", "fault of the program"],
)
def test_otherwise_the_traceback_is_shown_too(shown, caplog, monkeypatch, one_line, variable, error):
    monkeypatch.setenv(TRACEBACK_VARIABLE, variable)
    log_root_cause(one_line)
    sys.excepthook(type(error), error, None)
    assert shown == [(type(error), error, None)]
    assert len(caplog.records) == 1


def test_an_interrupt_is_one_line_without_a_traceback(shown, caplog):
    log_root_cause()
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert shown == []
    assert caplog.messages == ["Stopped. Written files are complete; resume a training with --resume true."]


def test_one_of_several_processes_is_named(shown, caplog, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    log_root_cause()
    sys.excepthook(ValueError, ValueError("Case 012: label has value 7."), None)
    assert caplog.messages == ["Process 2 of 3: Case 012: label has value 7."]
