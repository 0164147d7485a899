"""Seconds and memory of one training step of both branches at the paper's size and batch; prints a Markdown table.

The step is that of `covid_cap_bundle/configs`, with its samplers, on the built-in phantoms: 138 x 256 x 256 voxels, 20
scans in parts of `--batch_size` with gradient accumulation, loss of Eq. 4, Adam. Each branch runs in a process of its
own. Reading and preprocessing of the scans, and validation, are not timed. Each part is logged when it is done. CPU
seconds are those of all threads: on a busy machine they say more than the time on the clock.

    python docs/bench_training_step.py [--batch_size 5] [--accumulation_steps 4] [--grid "[138, 256, 256]"]
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fire
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from process_memory import memory

CONFIGS = Path(__file__).resolve().parents[1] / "covid_cap_bundle" / "configs"
BRANCHES = {"uniform": (), "size_balanced": ("recipes/size_balanced.yaml",)}


def measure(branch: str, batch_size: int, accumulation_steps: int, grid: Sequence[int]) -> None:
    """Run one optimizer step in this process; print its figures as JSON."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in ("train.yaml", *BRANCHES[branch])])
    with tempfile.TemporaryDirectory() as cache:
        parser.update({"dataset_dir": "phantom", "cache_dir": cache, "output_dir": cache, "num_workers": 0})
        parser.update({"batch_size": batch_size, "accumulation_steps": accumulation_steps, "grid": list(grid)})
        parser.update({"train#handlers": [], "epochs": 1})
        parser.get_parsed_content("initialize")
        trainer = parser.get_parsed_content("train#trainer")
        times = timed_parts(trainer, accumulation_steps)
        trainer.run()
    on_gpu = torch.cuda.is_available()
    figures = {
        "seconds": sum(wall for wall, _ in times),
        "cpu_seconds": sum(cpu for _, cpu in times),
        "bytes": torch.cuda.max_memory_allocated() if on_gpu else memory("VmHWM"),
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def timed_parts(trainer: Engine, parts: int) -> list[tuple[float, float]]:
    """Let a trainer stop after some iterations; the list gets seconds and CPU seconds of each, without reading."""
    times: list[tuple[float, float]] = []
    started = []

    def start() -> None:
        started.append(_clocks())

    def end(engine: Engine) -> None:
        wall, cpu = (now - then for now, then in zip(_clocks(), started[-1], strict=True))
        times.append((wall, cpu))
        sys.stderr.write(f"part {len(times)} of {parts}: {wall:.1f} s, {cpu:.1f} CPU s\n")
        if len(times) == parts:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_STARTED, start)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, end)
    return times


def table(batch_size: int = 5, accumulation_steps: int = 4, grid: Sequence[int] = (138, 256, 256)) -> None:
    """Print the table."""
    scans = batch_size * accumulation_steps
    rows, devices = [], set()
    for branch in BRANCHES:
        command = [sys.executable, __file__, "measure", branch, str(batch_size), str(accumulation_steps)]
        done = subprocess.run([*command, str(list(grid))], stdout=subprocess.PIPE, encoding="utf-8", check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        devices.add(found["device"])
        cells = [found["seconds"], found["cpu_seconds"], found["cpu_seconds"] / scans, found["bytes"] / 2**30]
        rows.append(f"| {branch} | {' | '.join(f'{cell:.2f}' for cell in cells)} |\n")
    sys.stdout.write(
        f"{', '.join(devices)}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}; one step of {scans} "
        f"scans of {' x '.join(map(str, grid))} as {accumulation_steps} x {batch_size}\n\n"
        "| branch | s a step | CPU s a step | CPU s a scan | peak memory, GiB |\n|---|---|---|---|---|\n"
    )
    sys.stdout.writelines(rows)


def _clocks() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    fire.Fire({"measure": measure} if sys.argv[1:2] == ["measure"] else table)
