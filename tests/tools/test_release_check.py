import sys
from pathlib import Path

import pytest

from tools import release_check
from tools.release_check import FAILED, IN_PART, NOT_RUN, PASSED, Check, main, run

PASSING = "def test_one():\n    assert True\n"
SKIPPED = "import pytest\n\n\ndef test_two():\n    pytest.skip('needs a moon')\n"
FAILING = "def test_three():\n    assert 1 == 2\n"


def check(*arguments: str, **more) -> Check:
    return Check("toy", "a toy", arguments, ("pytest",), **more)


def toy_tests(folder: Path, *texts: str) -> Check:
    for number, text in enumerate(texts):
        (folder / f"test_{number}.py").write_text(text, encoding="utf-8")
    return check("-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider", str(folder))


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    made = tmp_path / "tests", tmp_path / "reports"
    for folder in made:
        folder.mkdir()
    return made


@pytest.mark.parametrize(
    ("texts", "outcome", "detail"),
    [
        ([PASSING], PASSED, "1 tests"),
        ([PASSING, SKIPPED], IN_PART, "1 tests, 1 skipped: needs a moon"),
        ([SKIPPED], NOT_RUN, "0 tests, 1 skipped: needs a moon"),
        ([PASSING, FAILING], FAILED, "exit status 1: "),
    ],
)
def test_tests_pass_fail_or_were_not_run(texts, outcome, detail, folders):
    result = run(toy_tests(folders[0], *texts), folders[1])
    assert result.outcome == outcome
    assert result.detail.startswith(detail)
    assert "test session" in (folders[1] / "toy.log").read_text(encoding="utf-8")


def test_a_program_that_ends_with_an_error_fails_and_its_output_is_kept(folders):
    result = run(check("-c", "import sys; print('so it is'); sys.exit(3)"), folders[1])
    assert (result.outcome, result.detail) == (FAILED, f"exit status 3: {folders[1] / 'toy.log'}")
    assert (folders[1] / "toy.log").read_text(encoding="utf-8") == "so it is\n"


def test_an_older_outcome_is_not_taken_for_a_new_one(folders):
    run(toy_tests(folders[0], PASSING), folders[1])
    (folders[0] / "test_0.py").write_text(SKIPPED, encoding="utf-8")
    assert run(toy_tests(folders[0]), folders[1]).outcome == NOT_RUN


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("1", 1)])
def test_the_table_lists_versions_and_all_checks_decide_the_exit_status(code, status, folders, monkeypatch, capsys):
    good, other = check("-c", ""), Check("other", "another", ("-c", f"raise SystemExit({code})"), ("no-such-thing",))
    monkeypatch.setattr(release_check, "CHECKS", (good, other))
    with pytest.raises(SystemExit) as ended:
        main(["--reports", str(folders[1])])
    assert ended.value.code == status
    rows = (folders[1] / "table.md").read_text(encoding="utf-8").splitlines()[2:]
    assert rows[0].startswith(f"| a toy | pytest {pytest.__version__} | passed | ")
    assert rows[1].startswith("| another | no-such-thing missing | " + ("passed" if code == "0" else "FAILED (exit"))
    assert rows[1] in capsys.readouterr().out


def test_versions_come_from_the_environment_that_a_check_is_about(monkeypatch, tmp_path):
    absent = check("-c", "", environment=("TOY_PYTHON", str(tmp_path / "none")))
    assert release_check.versions(absent) == "-"
    monkeypatch.setenv("TOY_PYTHON", sys.executable)
    assert release_check.versions(absent) == f"pytest {pytest.__version__}"


def test_the_files_that_the_checks_name_exist():
    named = [word for one in release_check.CHECKS for word in one.arguments if "/" in word]
    assert named
    assert [word for word in named if not (release_check.ROOT / word).exists()] == []
