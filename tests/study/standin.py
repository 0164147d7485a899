"""Stands in for a bundle's run: ``python -m standin OUTPUT SEED STEPS SECONDS FAILS_AT DIES_AT``.

Adds a line a step to its output, so that a run on top of another's remains would be seen.
"""

import os
import random
import sys
import time
from pathlib import Path

LOGGED = "2026-11-22 06:00:00,000 - custom_components.engines.root_cause - ERROR - Case 012: label has value 7."


def main() -> None:
    output, (seed, steps), (seconds, fails_at, dies_at) = (
        Path(sys.argv[1]),
        map(int, sys.argv[2:4]),
        map(float, sys.argv[4:]),
    )
    output.with_suffix(".pid").write_text(f"{os.getpid()}\n{os.environ.get('CUDA_VISIBLE_DEVICES')}", encoding="utf-8")
    for step in range(steps):
        time.sleep(seconds)
        if step == fails_at:
            sys.exit(LOGGED)
        if step == dies_at:
            os.kill(os.getpid(), 9)
        with output.open("a", encoding="utf-8") as file:
            file.write(f"{random.Random(seed + step).random()}\n")


if __name__ == "__main__":
    main()
