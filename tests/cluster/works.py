"""What workers of the tests do, instead of networks."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.diagnosis.case_folder import SCAN
from custom_components.diagnosis.scan_source import ScanSource


@dataclass(frozen=True)
class Tiny:
    """Applies a function.

    Args:
        apply: the function.
        problem: why no node fits.
        marks: folder in which each worker leaves a file when it loads; the first one computes differently.
    """

    apply: Callable[[Any], Any]
    problem: str = ""
    marks: Path | None = None

    def load(self) -> Callable[[Any], Any]:
        if self.problem == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.problem:
            raise ValueError(self.problem)
        return self.apply

    def arithmetic(self) -> str:
        if self.marks is None:
            return "whole numbers"
        try:
            (self.marks / "first").touch(exist_ok=False)
        except FileExistsError:
            return "fractions"
        return "whole numbers"


@dataclass(frozen=True)
class NoNetworks:
    """In place of the networks."""

    def load(self) -> None:
        return None

    def arithmetic(self) -> str:
        return "whole numbers"


def worker_number(_: int) -> int:
    return os.getpid()


def negative(number: int) -> int:
    return -number


def slow_negative(number: int) -> int:
    time.sleep(0.3)
    return -number


def dies_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return -number


def dies_once(case: tuple[int, str]) -> int:
    """The worker of the first attempt at case 3 is killed."""
    number, folder = case
    mark = Path(folder) / "mark"
    if number == 3 and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def write_case(source: ScanSource, folder: Path, _: object, seconds: float = 0.0) -> list[str]:
    """The files of a case, from the name of its scan; some scans are poison."""
    time.sleep(seconds)
    with source.clock.stage("think"):
        (folder / "dicom").mkdir(exist_ok=True)
        (folder / "dicom" / "segmentation.dcm").write_text(source.case_id)
    if "kills" in source.case_id:
        os.kill(os.getpid(), signal.SIGKILL)
    if "fails" in source.case_id:
        raise ValueError(f"Case {source.case_id}: no plausible lungs found.")
    (folder / "report.json").write_text(json.dumps({"case_id": source.case_id, SCAN: source.sha256}))
    return [f"it was number {source.case_id}"]


def slept(_: object) -> None:
    time.sleep(0)
