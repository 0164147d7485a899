import sys
from pathlib import Path

import pytest
from custom_components.study.runs.run import Run, argument, check_plan
from fire.parser import DefaultParseValue
from hypothesis import given
from hypothesis import strategies as st

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def run_of(name: str, needs: tuple[str, ...] = (), folder: str | None = None) -> Run:
    return Run(name, "kind", Path("bundle"), "training", ("train.yaml",), Path(folder or name), needs=needs)


@given(PLAIN | st.lists(PLAIN) | st.dictionaries(st.text(), st.lists(PLAIN)))
def test_fire_parses_an_argument_back_to_its_value(value):
    assert DefaultParseValue(argument(value)) == value


def test_the_command_line_names_configs_places_and_numbers():
    run = Run(
        "plain_us/fold_1/train", "plain_us train", Path("/b"), "training", ("train.yaml", "plain.yaml"), Path("/s/r"),
        {"grid": [24, 56, 48], "network_def#alpha": 50}, {"dataset_dir": Path("/my data/007")},
    )  # fmt: skip
    words = [sys.executable, "-m", "monai.bundle", "run", "training"]
    assert run.command() == [
        *words,
        "--config_file=['/b/configs/train.yaml', '/b/configs/plain.yaml']",
        "--bundle_root=/b",
        "--dataset_dir=/my data/007",
        "--grid=[24, 56, 48]",
        "--network_def#alpha=50",
    ]
    assert run.command(resume=True) == [*run.command(), "--resume=True"]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([run_of("b", ("a",)), run_of("a")], "Run b needs a, which is not planned before it"),
        ([run_of("a"), run_of("a", folder="b")], "Run a is planned twice"),
        ([run_of("a"), run_of("b", folder="a")], "Two runs would write to the same folder"),
    ],
)
def test_a_plan_that_cannot_be_executed_is_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        check_plan(runs)


def test_a_run_may_need_one_of_an_earlier_plan():
    check_plan([run_of("b", ("a",))], earlier=["a"])
