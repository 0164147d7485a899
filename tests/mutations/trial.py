"""Within the copy: try the mutations one after the other, each in a process that has the large libraries already."""

import importlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.listed import MUTATIONS
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
# Of the tests of one mutation.
SECONDS = 600
# What takes seconds to import and is not mutated.
LIBRARIES = ("hypothesis", "matplotlib.pyplot", "monai.bundle", "pandas", "scipy.ndimage", "sklearn.metrics", "torch")
KILLED, SURVIVED, BROKEN, NOT_FOUND = "killed", "SURVIVED", "BROKEN", "NOT APPLICABLE"


def try_all(only: str) -> int:
    """Print a line for each mutation that has the word, and the counts.

    Returns:
        0 when all are killed, else 1.
    """
    if (ROOT / ".git").exists():
        raise SystemExit(
            f"{ROOT} is a checkout, and mutations change it. Run python -m tests.mutations: it makes a copy."
        )
    chosen = [mutation for mutation in MUTATIONS if only.lower() in mutation.name.lower()]
    if not chosen:
        say(f"No mutation has {only!r} in its name.")
        return 1
    for library in LIBRARIES:
        importlib.import_module(library)
    tests = sorted({test for mutation in chosen for test in mutation.tests})
    if (code := run_tests(tests)) != 0:
        say(f"The tests have to pass without a mutation, and do not (pytest's exit status {code}):\n{_log()[-3000:]}")
        return 1
    say("| mutation | outcome | seconds |\n|---|---|---|")
    outcomes: Counter[str] = Counter()
    for mutation in chosen:
        start = time.monotonic()
        outcome = try_one(mutation)
        outcomes[outcome] += 1
        say(f"| {mutation.name} | {outcome} | {time.monotonic() - start:.0f} |")
    say(f"\n{len(chosen)} mutations: " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    return int(set(outcomes) != {KILLED})


def try_one(mutation: Mutation) -> str:
    """Outcome of one mutation."""
    if mutation.found(ROOT) != 1:
        return NOT_FOUND
    with mutation.applied(ROOT):
        return {0: SURVIVED, 1: KILLED}.get(run_tests(mutation.tests, SECONDS), BROKEN)


def run_tests(tests: Sequence[str], seconds: float | None = None) -> int | None:
    """Exit status of pytest: 0 all passed, 1 some failed, others did not run; None when the time is up."""
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(list(tests),))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
    return process.exitcode


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _pytest(tests: list[str]) -> None:
    import pytest

    with Path("log").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        options = ["-x", "-q", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider", "-m", "not slow"]
        code = pytest.main([*options, *tests])
        sys.stdout.flush()
        os._exit(code)


def _log() -> str:
    return Path("log").read_text(errors="replace")


if __name__ == "__main__":
    sys.exit(try_all(sys.argv[1]))
