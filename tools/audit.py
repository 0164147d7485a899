"""List known vulnerabilities of the pinned packages with pip-audit: `make audit`.

    python -m tools.audit [FILE ...]

If the service is not reachable, the program says so and exits with status 0, or with 2 under `--strict`, which releases
use. Status 1: vulnerabilities were found.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("constraints.txt", "requirements/label.txt", "requirements/deploy.txt")
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 2
INSTALL = "pip-audit is not installed: pip install pip-audit"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Answer:
    """Result for one file.

    Attributes:
        count: number of packages that the service knows.
        found: one sentence per vulnerability.
        not_known: one sentence per package that the service does not know, or the reason why it gave no answer.
    """

    count: int
    found: tuple[str, ...] = ()
    not_known: tuple[str, ...] = ()


def audit(pinned: Path) -> Answer:
    """Check the packages of one file with `name==version` lines."""
    if importlib.util.find_spec("pip_audit") is None:
        return Answer(0, not_known=(INSTALL,))
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, "pinned.txt")
        plain.write_text("\n".join(pins(pinned.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(plain), "--format", "json"]
        command += ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return Answer(0, not_known=(f"the service did not answer within {TIMEOUT_S} s",))
    try:
        return read_answer(json.loads(done.stdout))
    except ValueError:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit status {done.returncode}"
        return Answer(0, not_known=(f"pip-audit gave no answer: {reason}",))


def pins(text: str) -> Iterator[str]:
    """Requirements of a file without comments and extras (the packages of an extra have their own lines)."""
    for line in text.splitlines():
        requirement = line.split("#")[0].strip()
        if requirement:
            name, _, version = requirement.partition("==")
            yield f"{name.split('[')[0]}=={version}"


def read_answer(content: Any) -> Answer:
    """Convert the JSON output of pip-audit to sentences.

    Args:
        content: `{"dependencies": [...]}` of `{"name", "version", "vulns": [{"id", "fix_versions"}]}` or
            `{"name", "skip_reason"}`.

    Raises:
        ValueError: when the content has another form.
    """
    if not isinstance(content, dict) or not isinstance(content.get("dependencies"), list):
        raise ValueError("pip-audit did not write a list of dependencies.")
    packages = content["dependencies"]
    found = (
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none'}"
        for package in packages
        for flaw in package.get("vulns", [])
    )
    not_known = (f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package)
    count = sum("skip_reason" not in package for package in packages)
    return Answer(count, tuple(found), tuple(not_known))


def main(arguments: Sequence[str] | None = None) -> None:
    """Check the named files, or all; exit with the worst status."""
    parser = argparse.ArgumentParser(description="Known vulnerabilities of the pinned packages.")
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / name for name in PINNED])
    parser.add_argument("--strict", action="store_true", help="exit with status 2 if the service gives no answer")
    given = parser.parse_args(arguments)
    answers = [(file, audit(file)) for file in given.files]
    for file, answer in answers:
        sys.stdout.write(
            f"{file.name}: {len(answer.found)} vulnerabilities of {answer.count} packages that are known\n"
        )
        sys.stdout.writelines(f"  VULNERABLE {line}\n" for line in answer.found)
        sys.stdout.writelines(f"  not known: {line}\n" for line in answer.not_known)
    if any(answer.found for _, answer in answers):
        sys.exit(VULNERABLE)
    sys.exit(UNKNOWN if given.strict and any(answer.not_known for _, answer in answers) else CLEAN)


if __name__ == "__main__":
    main()
