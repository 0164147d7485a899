"""Seconds and memory of the attention beside the plain 3D ResNet34, forward + backward; prints a Markdown table.

Each in a process of its own, float32, batch 1, the repeats of all systems interleaved; medians. "plain" is the
classifier with cross-entropy alone, "attention" adds the map of Eq. (1), (2) and the loss of Eq. (3).

Then what one scan keeps for the backward pass, counted tensor by tensor, from which the memory of a batch follows.

    python docs/bench_attention_resnet.py [--grid "[138, 256, 256]"] [--repeats 3]
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import fire
import torch
from custom_components import AttentionGuidedLoss, AttentionResNet, WithSoftMask
from process_memory import memory, reset_peak

SYSTEMS = ("plain", "attention")


def measure(system: str, grid: Sequence[int]) -> None:
    """Run one step in this process, after one on a small scan; print its figures as JSON."""
    torch.manual_seed(0)
    with_attention = system == "attention"
    network = WithSoftMask(AttentionResNet(), enabled=with_attention).train()
    loss = AttentionGuidedLoss(0.5 if with_attention else 0)
    step(network, loss, (32, 32, 32))
    held = memory("VmRSS")
    reset_peak()
    start = time.perf_counter()
    step(network, loss, grid)
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "bytes": memory("VmHWM") - held}) + "\n")


def step(network: torch.nn.Module, loss: torch.nn.Module, grid: Sequence[int]) -> None:
    """Forward and backward of one COVID-19 scan."""
    scan = torch.rand(1, 1, *grid)
    target = {"label": torch.tensor([1]), "infection": (scan > 0.9).to(torch.uint8)}
    loss(network(scan), target).backward()


def kept_bytes(half: bool, grid: Sequence[int]) -> int:
    """Bytes that one scan keeps for the backward pass, weights not counted, each storage once."""
    network = WithSoftMask(AttentionResNet()).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    scan = torch.rand(1, 1, *grid)
    target = {"label": torch.tensor([1]), "infection": (scan > 0.9).to(torch.uint8)}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            prediction = network(scan)
        loss = AttentionGuidedLoss()(prediction, target)
    total = sum(storage.nbytes() for storage in kept.values())
    return total if loss.requires_grad else 0


def memory_table(grid: Sequence[int] = (138, 256, 256)) -> None:
    """Print what training needs, counted: activations, and weights with gradients and Adam's two moments."""
    parameters = sum(parameter.numel() for parameter in AttentionResNet().parameters())
    sys.stdout.write(
        f"\nWeights, gradients and Adam's moments: {4 * 4 * parameters / 2**30:.2f} GiB; in addition for each scan:\n\n"
        "| precision | kept for backward, GiB a scan | batch 5 | batch 20 |\n|---|---|---|---|\n"
    )
    for name, half in (("float32", False), ("mixed (16 bit)", True)):
        gib = kept_bytes(half, grid) / 2**30
        fixed = 4 * 4 * parameters / 2**30
        sys.stdout.write(f"| {name} | {gib:.2f} | {fixed + 5 * gib:.1f} GiB | {fixed + 20 * gib:.1f} GiB |\n")


def table(grid: Sequence[int] = (138, 256, 256), repeats: int = 3) -> None:
    """Print the table."""
    found: dict[str, list[dict[str, float]]] = {system: [] for system in SYSTEMS}
    for _ in range(repeats):
        for system in SYSTEMS:
            command = [sys.executable, __file__, "measure", system, str(list(grid))]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
            found[system].append(json.loads(done.stdout.splitlines()[-1]))
    sys.stdout.write(
        f"CPU, {torch.get_num_threads()} threads, float32, 1 x 1 x {' x '.join(map(str, grid))}, forward + backward; "
        f"median of {repeats}\n\n| network | s | GiB |\n|---|---|---|\n"
    )
    medians = {
        system: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "bytes")}
        for system, runs in found.items()
    }
    for system, values in medians.items():
        sys.stdout.write(f"| {system} | {values['seconds']:.2f} | {values['bytes'] / 2**30:.2f} |\n")
    plain, attention = (medians[system] for system in SYSTEMS)
    cells = [f"{attention[key] / plain[key]:.3f}" for key in ("seconds", "bytes")]
    sys.stdout.write(f"| attention / plain | {' | '.join(cells)} |\n")
    memory_table(grid)


if __name__ == "__main__":
    fire.Fire({"measure": measure} if sys.argv[1:2] == ["measure"] else table)
