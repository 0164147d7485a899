"""Do the tests notice mistakes? Each mutation of the list is tried in a copy, and what it survives is printed.

    python -m tests.mutations [--only WORD]

A mutation is killed when a test that it names fails. It has survived when they pass: then a test is missing. It is
broken when they do not run, or their time is up. The tests first have to pass without a mutation.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("custom_components", "tests", "tools", "docs", "covid_cap_bundle", "covid_seg_bundle", "pyproject.toml")


def main() -> int:
    """Copy what the tests need, and try the mutations there; 0 when all are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="WORD", help="those whose file or mistake has this word")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy_to(Path(folder))
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "tests.mutations.trial", only]
        return subprocess.run(command, cwd=folder, env=environment).returncode


def copy_to(folder: Path) -> None:
    """Copy package, tests and what they read; no byte code, which may be of another text of the same second."""
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)


if __name__ == "__main__":
    sys.exit(main())
