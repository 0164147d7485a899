"""The checks of .github and .pre-commit-config.yaml agree with the project's own files."""

import re

import pytest
import yaml

from tests.bundles.conftest import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
STEPS = [(job, step) for job, entry in WORKFLOW["jobs"].items() for step in entry["steps"]]
COMMANDS = " ".join(step.get("run", "") for _, step in STEPS)
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())


def test_an_action_is_pinned_by_its_commit() -> None:
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name)] == []


def test_every_job_has_a_time_limit_and_may_only_read() -> None:
    limits = {name: job["timeout-minutes"] for name, job in WORKFLOW["jobs"].items()}
    assert limits.pop("all") == 180  # once a week
    assert all(0 < minutes <= 75 for minutes in limits.values())
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_the_verbs_and_folders_of_the_jobs_are_there() -> None:
    verbs = set(re.findall(r"make (\w+)", COMMANDS))
    assert {"setup", "check", "test"} <= verbs
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [verb for verb in verbs if f"\n{verb}:" not in makefile] == []
    assert [folder for folder in re.findall(r"tests/\S+", COMMANDS) if not (ROOT / folder).is_dir()] == []


def test_the_oldest_python_is_the_one_that_the_package_asks_for() -> None:
    oldest = WORKFLOW["jobs"]["linux"]["strategy"]["matrix"]["python"][0]
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("repository", "package"), [("ruff-pre-commit", "ruff"), ("pre-commit-hooks", "pre_commit_hooks")]
)
def test_the_hooks_before_a_commit_are_those_of_the_constraints(repository: str, package: str) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [entry["rev"] for entry in hooks if entry["repo"].endswith(repository)] == [f"v{PINS[package]}"]
