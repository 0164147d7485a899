"""Run all release checks that need no GPU, and print a table of checks, versions and results.

    python -m tools.release_check [--only NAME ...] [--reports build/release-check]

Each check is a separate program with the log `<reports>/<name>.log`. A check that cannot run, because an environment or
a checkout is missing, does not pass: the table says what is missing.
"""

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_components.files.atomic import writable_folder
from custom_components.reports.score_tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PASSED, IN_PART, NOT_RUN, FAILED = "passed", "passed in part", "not run", "FAILED"

VERSIONS = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "missing")
"""


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: short name for `--only` and the log.
        what: description for the table.
        arguments: arguments of the interpreter; `-m pytest ...` for tests.
        packages: packages whose versions are listed.
        environment: variable that names the interpreter of another environment, and its default path.
    """

    name: str
    what: str
    arguments: tuple[str, ...]
    packages: tuple[str, ...]
    environment: tuple[str, str] | None = None

    @property
    def interpreter(self) -> str:
        """Interpreter whose packages are checked."""
        if self.environment is None:
            return sys.executable
        variable, default = self.environment
        return os.environ.get(variable) or str(ROOT / default)


def tests(*selection: str) -> tuple[str, ...]:
    """Arguments that run tests."""
    return ("-m", "pytest", "-rs", *selection)


CHECKS = (
    Check("lint", "ruff", ("-m", "ruff", "check", "."), ("ruff",)),
    Check("types", "mypy", ("-m", "mypy"), ("mypy",)),
    Check(
        "tests",
        "tests of the code",
        tests("tests", "-n", "auto", "-m", "not slow and not gpu and not label and not deploy"),
        ("torch", "monai", "numpy"),
    ),
    Check("package", "make package: folder and zip of both bundles", ("tools/package_bundles.py",), ("monai", "torch")),
    Check(
        "zoo-format",
        "Model Zoo: black, isort, flake8, hooks",
        tests("tests/tools/test_model_zoo.py", "-k", "format or hooks"),
        ("black", "isort", "flake8", "pre-commit-hooks"),
    ),
    Check(
        "zoo-verify",
        "Model Zoo: ci/verify_bundle.py, full mode",
        tests("tests/tools/test_model_zoo.py", "-k", "full_mode"),
        ("monai",),
    ),
    Check(
        "zoo-run",
        "Model Zoo: train, evaluate, infer as its unit tests",
        tests("tests/tools/test_model_zoo.py", "-k", "idiom"),
        ("monai",),
    ),
    Check(
        "export",
        "TorchScript and ONNX",
        tests("tests/bundles/test_export.py"),
        ("torch", "onnx", "onnxscript", "onnxruntime"),
    ),
    Check(
        "label",
        "MONAI Label",
        tests("tests/ecosystem/test_monai_label.py"),
        ("monailabel", "monai", "numpy", "pydicom"),
        ("MONAILABEL_PYTHON", ".venv-label/bin/python"),
    ),
    Check(
        "deploy",
        "MONAI Deploy",
        tests("tests/ecosystem/test_monai_deploy.py"),
        ("monai-deploy-app-sdk", "highdicom", "pydicom"),
        ("MONAIDEPLOY_PYTHON", ".venv-deploy/bin/python"),
    ),
    Check("tracking", "MLflow", tests("tests/bundles/test_tracking.py"), ("mlflow",)),
)


@dataclass(frozen=True)
class Result:
    """Result of a check: `PASSED`, `IN_PART`, `NOT_RUN` or `FAILED`, the reason, and the duration."""

    outcome: str
    detail: str
    seconds: float


def run(check: Check, reports: Path) -> Result:
    """Run one check with the log `<reports>/<name>.log`; tests that were skipped count as passed in part."""
    log, outcomes = reports / f"{check.name}.log", reports / f"{check.name}.xml"
    outcomes.unlink(missing_ok=True)
    is_test = check.arguments[:2] == ("-m", "pytest")
    command = [sys.executable, *check.arguments, *([f"--junitxml={outcomes}"] if is_test else [])]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    outcome, detail = tested(outcomes) if code == 0 and is_test else (PASSED, "")
    if code:
        outcome, detail = FAILED, f"exit status {code}: {log}"
    return Result(outcome, detail, time.monotonic() - started)


def tested(outcomes: Path) -> tuple[str, str]:
    """Outcome of tests without failures, and numbers and reasons of skips, from pytest's JUnit file."""
    cases = ElementTree.parse(outcomes).getroot().findall(".//testcase")
    skipped = [case.find("skipped") for case in cases if case.find("skipped") is not None]
    ran = len(cases) - len(skipped)
    reasons = "; ".join(dict.fromkeys(entry.get("message", "") for entry in skipped if entry is not None))
    detail = f"{ran} tests" + (f", {len(skipped)} skipped: {reasons}" if skipped else "")
    return (NOT_RUN if not ran else IN_PART if skipped else PASSED), detail


def versions(check: Check) -> str:
    """Versions of a check's packages in its environment."""
    if not Path(check.interpreter).is_file():
        return "-"
    command = [check.interpreter, "-c", VERSIONS, *check.packages]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return ", ".join(done.stdout.splitlines())


def table(rows: Iterable[tuple[Check, Result]]) -> str:
    """Markdown table of the results."""
    lines = []
    for check, result in rows:
        outcome = f"{result.outcome} ({result.detail})" if result.detail else result.outcome
        lines.append([check.what, versions(check), outcome, f"{result.seconds / 60:.1f}"])
    return markdown_table(["what", "version", "result", "minutes"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the named checks, or all; exit status 1 unless all passed."""
    parser = argparse.ArgumentParser(description="Run the release checks that need no GPU.")
    parser.add_argument("--only", nargs="+", choices=[check.name for check in CHECKS], help="run only these checks")
    parser.add_argument("--reports", type=Path, default=ROOT / "build" / "release-check", help="folder of the logs")
    given = parser.parse_args(arguments)
    reports = writable_folder(given.reports).resolve()
    rows = []
    for check in (check for check in CHECKS if not given.only or check.name in given.only):
        sys.stdout.write(f"{check.name} ... ")
        sys.stdout.flush()
        rows.append((check, run(check, reports)))
        sys.stdout.write(f"{rows[-1][1].outcome}\n")
    text = table(rows)
    (reports / "table.md").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"\n{text}\n")
    sys.exit(0 if all(result.outcome == PASSED for _, result in rows) else 1)


if __name__ == "__main__":
    main()
