"""Time and memory of LSH attention, forward and backward, against three others; prints a Markdown table.

Each measurement runs in a process of its own (peak memory is the process's, less what it held before), the systems of
one length side by side, and the median of the repeats is printed. 4 rounds, 4 heads, d = 64, chunks of 128 tokens.

    python docs/bench_lsh_attention.py [--lengths 1024,4096] [--repeats 3]
"""

import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import fire
import torch
import torch.nn.functional as F
from custom_components.networks.lsh.hashing import hash_vectors, number_of_buckets, random_rotations
from custom_components.networks.lsh.rounds import lsh_attention
from process_memory import memory, reset_peak

HEADS, DIM, ROUNDS, BUCKET_SIZE = 4, 64, 4, 64
LENGTHS = (1024, 4096, 8192, 16384, 36864, 136192)
# Longest sequence to try with each: beyond, it takes minutes or more memory than there is.
LONGEST = {"ours": 10**9, "reformer-pytorch": 40_000, "scaled_dot_product": 40_000, "naive softmax": 9_000}


def ours(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """LSHAttention's own steps, projections left out as in the others."""
    buckets = number_of_buckets(queries.shape[2], BUCKET_SIZE)
    hashed = hash_vectors(queries.detach(), random_rotations(ROUNDS, DIM, seed=0), buckets)
    return lsh_attention(queries, values, hashed, 2 * BUCKET_SIZE)


def reformer(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """reformer-pytorch in its exact mode; its bucket_size is the chunk length."""
    from reformer_pytorch import LSHAttention

    attention = LSHAttention(
        bucket_size=2 * BUCKET_SIZE,
        n_hashes=ROUNDS,
        causal=False,
        allow_duplicate_attention=False,
        attend_across_buckets=False,
    )
    return attention(queries.flatten(0, 1), values.flatten(0, 1))[0]


def scaled_dot_product(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Torch's fused full attention."""
    return F.scaled_dot_product_attention(queries, F.normalize(queries, dim=-1), values)


def naive(queries: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Full attention with its L x L matrix."""
    logits = queries @ F.normalize(queries, dim=-1).transpose(-1, -2) / DIM**0.5
    return torch.softmax(logits, dim=-1) @ values


SYSTEMS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "ours": ours,
    "reformer-pytorch": reformer,
    "scaled_dot_product": scaled_dot_product,
    "naive softmax": naive,
}


def measure(system: str, length: int, repeats: int) -> None:
    """Run one system in this process and print seconds (median) and peak bytes as JSON."""
    warnings.simplefilter("ignore")  # of reformer-pytorch's older torch calls
    attend = SYSTEMS[system]
    torch.manual_seed(0)
    attend(*(torch.randn(1, HEADS, 256, DIM, requires_grad=True) for _ in range(2))).sum().backward()  # warm up
    queries, values = (torch.randn(1, HEADS, length, DIM, requires_grad=True) for _ in range(2))
    reset_peak()
    held, seconds = memory("VmRSS"), []
    for _ in range(repeats):
        start = time.perf_counter()
        output = attend(queries, values)
        output.backward(torch.ones_like(output))
        seconds.append(time.perf_counter() - start)
    result = {"seconds": statistics.median(seconds), "bytes": memory("VmHWM") - held}
    sys.stdout.write(json.dumps(result) + "\n")


def run(system: str, length: int, repeats: int) -> dict[str, float] | None:
    """Measure in a new process; None when it is too long or runs out of memory."""
    if length > LONGEST[system]:
        return None
    command = [sys.executable, __file__, "measure", system, str(length), str(repeats)]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return json.loads(finished.stdout.splitlines()[-1]) if finished.returncode == 0 else None


def table(lengths: str | tuple[int, ...] = LENGTHS, repeats: int = 3) -> None:
    """Print the table."""
    chosen = [int(x) for x in (lengths.split(",") if isinstance(lengths, str) else ensure_tuple(lengths))]
    sys.stdout.write(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; forward + backward, "
        f"{ROUNDS} rounds, {HEADS} heads, d {DIM}; median of {repeats}\n\n"
    )
    header = [f"{name}: s | MiB" for name in SYSTEMS]
    sys.stdout.write(f"| tokens | {' | '.join(header)} | reformer / ours: time | memory |\n")
    sys.stdout.write(f"|---{'|---|---' * len(SYSTEMS)}|---|---|\n")
    for length in chosen:
        results = {name: run(name, length, repeats) for name in SYSTEMS}
        cells = [f"{r['seconds']:.2f} | {r['bytes'] / 2**20:.0f}" if r else "- | -" for r in results.values()]
        first, other = results["ours"], results["reformer-pytorch"]
        ratio = "- | -"
        if first and other:
            ratio = f"{other['seconds'] / first['seconds']:.1f} | {other['bytes'] / first['bytes']:.1f}"
        sys.stdout.write(f"| {length} | {' | '.join(cells)} | {ratio} |\n")
        sys.stdout.flush()


def ensure_tuple(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Fire gives one length as an int."""
    return value if isinstance(value, tuple | list) else (value,)


if __name__ == "__main__":
    fire.Fire({"measure": measure, "table": table} if sys.argv[1:2] == ["measure"] else table)
