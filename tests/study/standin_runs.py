"""Plans of runs that are stand-ins, and a study of them in a process of its own, to be killed."""

import multiprocessing
import sys
from pathlib import Path

from custom_components.study.runs.run import TRAINING, Run
from custom_components.study.runs.runner import Outcome, Runner
from custom_components.study.runs.study_folder import study_folder

STANDIN = Path(__file__).parent
OUTPUT = "out.txt"


def standin_run(folder: Path, name: str, needs: tuple[str, ...] = (), **numbers: float) -> Run:
    own = folder / "runs" / name
    places = {"ckpt_dir": own / "models"}
    return Run(name, name.split("/")[0], folder, TRAINING, (), own, numbers, places, (OUTPUT,), needs)


def standin_plan(folder: Path, **numbers: float) -> list[Run]:
    """Two chains of a training and what is scored with it, and one run beside them."""
    chains = [
        standin_run(folder, f"{name}/{k}", (f"train/{k}",) if name == "evaluate" else (), **{"seed": 10 * k, **numbers})
        for k in (0, 1)
        for name in ("train", "evaluate")
    ]
    return [*chains, standin_run(folder, "alone/0", **numbers)]


def command_of(run: Run, resume: bool) -> list[str]:
    numbers = {"seed": 0, "steps": 3, "seconds": 0.0, "fails_at": -1, "dies_at": -1, **run.overrides}
    words = [str(numbers[name]) for name in ("seed", "steps", "seconds", "fails_at", "dies_at")]
    return [sys.executable, "-m", "standin", str(run.folder / OUTPUT), *words]


def hashes_of(runs: list[Run], word: str = "as it is") -> dict[str, str]:
    return {run.name: f"{run.name} {sorted(run.overrides.items())} {word}" for run in runs}


def execute(runs: list[Run], word: str = "as it is", **options) -> Outcome:
    return Runner(command_of=command_of, **options).execute(runs, hashes_of(runs, word))


def texts(folder: Path) -> dict[str, str]:
    """What the runs wrote, by their names."""
    found = sorted((folder / "runs").rglob(OUTPUT))
    return {path.parent.relative_to(folder / "runs").as_posix(): path.read_text(encoding="utf-8") for path in found}


def conduct(folder: Path, runs: list[Run], workers: int) -> None:
    with study_folder(folder, "standin") as lock:
        execute(runs, lock=lock, workers=[{"WORKER": str(number)} for number in range(workers)])


def begin(folder: Path, runs: list[Run], workers: int = 1) -> multiprocessing.Process:
    """A study in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=conduct, args=(folder, runs, workers))
    process.start()
    return process
