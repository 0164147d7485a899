import pytest
from custom_components.study.runs.run_log import failure_reason
from custom_components.study.runs.run_stamp import LOG

CAUSE = "2026-11-22 06:00:00,000 - custom_components.engines.root_cause - ERROR - "


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (f"Traceback\nRuntimeError: x\n{CAUSE}Case 012: label has value 7.\n", 1, "Case 012: label has value 7."),
        (f"{CAUSE}first\n{CAUSE}second\nlast line\n", 1, "second"),
        ("Traceback\nModuleNotFoundError: No module named 'x'\n\n", 1, "ModuleNotFoundError: No module named 'x'"),
        ("", 3, "ended with status 3 and without a message"),
        ("whatever", -9, "ended by the signal SIGKILL, as the system does when memory runs out"),
        ("whatever", -15, "ended by the signal SIGTERM"),
        ("x" * 1000, 1, "x" * 400 + " ..."),
    ],
    ids=["root cause", "last cause", "last line", "empty", "killed", "terminated", "long"],
)
def test_the_reason_is_one_line_that_names_the_cause(tmp_path, text, status, reason):
    (tmp_path / LOG).write_text(text, encoding="utf-8")
    assert failure_reason(tmp_path, status) == reason


def test_a_run_without_a_log_has_a_reason_too(tmp_path):
    assert failure_reason(tmp_path, 2) == "ended with status 2 and without a message"
