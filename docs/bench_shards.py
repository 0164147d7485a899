"""Seconds to read preprocessed scans from shards and from the folder of the cache; prints a Markdown table.

Scans of the given grid are written once in both forms, then read in random order by one process, in turns. The files
are in the system's page cache, so this measures the work of the reader, not the disk.

    python docs/bench_shards.py [--scans 12] [--grid "[138, 256, 256]"] [--repeats 5]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fire
import torch
from custom_components import ScanCache, ShardedScans, list_scans, list_sharded_scans, phantom
from custom_components.masks.shards import preprocessing, write_shards

CONFIGS = Path(__file__).resolve().parents[1] / "covid_cap_bundle" / "configs"


def table(scans: int = 12, grid: Sequence[int] = (138, 256, 256), repeats: int = 5) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        data = phantom.write_scan_dataset(Path(folder) / "data", scans, (64, 60, 28), (5.6, 6.0, 10.0), num_folds=2)
        write_shards(str(data), f"{folder}/shards", grid=grid)
        transform, _ = preprocessing(CONFIGS, {"grid": list(grid)})
        listed = list_sharded_scans(f"{folder}/shards")
        readers = {
            "folder of the cache": ScanCache(list_scans(data), transform, f"{folder}/cache"),
            "shards": ShardedScans(listed, f"{folder}/shards"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in readers}
        for turn in range(repeats + 1):  # the first fills the cache
            order = torch.randperm(scans).tolist()
            for name, reader in readers.items():
                start = time.perf_counter()
                for index in order:
                    reader[index]
                seconds[name] += [(time.perf_counter() - start) / scans] if turn else []
    sys.stdout.write(f"{scans} scans of {' x '.join(map(str, grid))}, median of {repeats}\n\n")
    sys.stdout.write("| source | s per scan | scans per s |\n|---|---|---|\n")
    for name, values in seconds.items():
        one = statistics.median(values)
        sys.stdout.write(f"| {name} | {one:.3f} | {1 / one:.1f} |\n")


if __name__ == "__main__":
    fire.Fire(table)
