"""Check both bundles on a GPU: numbers against the CPU, seconds and memory at the papers' sizes, a scan, DDP.

    python -m tools.gpu_check OUTPUT [--device cuda] [--seconds 480] [--small]

Each check is one row of OUTPUT/gpu_check.md. Finished rows are kept in OUTPUT/gpu_check.json: after an interruption, or
when `--seconds` are over, the same command continues. `--small` uses small networks and grids, to try the script.
"""

import copy
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire
import torch
from custom_components import (
    AttentionGuidedLoss,
    AttentionResNet,
    DualSamplingNet,
    PixelCrossEntropy,
    ResidualAttentionUNet,
    SizeBalancedSampler,
    VBNet,
    WithSoftMask,
)
from custom_components.command_line.endings import ended_with_a_message
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.diagnosis.weight_files import Weights
from custom_components.files.atomic import absolute_path, atomic_path, writable_folder
from custom_components.phantom.dicom import write_dicom_series
from custom_components.reports.score_tables import markdown_table
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# A device may differ from the exact result by this factor more than the CPU in the same precision.
MOST_TIMES_CPU = 4.0
REPEATS = 3

_logger = logging.getLogger(__name__)

Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the checks: those of the papers, or small ones."""

    small: bool

    @property
    def grid(self) -> tuple[int, int, int]:
        """Grid of the classifier, z, y, x."""
        return (24, 32, 32) if self.small else (138, 256, 256)

    @property
    def slice_size(self) -> int:
        """Side of a slice of the segmentation."""
        return 64 if self.small else 369

    def classifier(self) -> AttentionResNet:
        """The classifier, with first weights."""
        return AttentionResNet(layers=(1, 1, 1, 1), block_inplanes=(4, 8, 16, 32)) if self.small else AttentionResNet()

    def segmentation(self) -> ResidualAttentionUNet:
        """The segmentation network with LSH attention, with first weights."""
        return ResidualAttentionUNet(features=(8, 16, 32)) if self.small else ResidualAttentionUNet()


def classifier_batch(grid: Sequence[int], count: int) -> Batch:
    """Random scans, of both classes in turn, with infection masks."""
    image = torch.rand(count, 1, *grid, generator=torch.Generator().manual_seed(1))
    return {"image": image, "label": torch.arange(count) % 2, "infection": (image > 0.9).to(torch.uint8)}


def slice_batch(size: int, count: int) -> Batch:
    """Random slices with random labels."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 1, size, size, generator=generator)
    return {"image": image, "label": torch.randint(0, 4, (count, 1, size, size), generator=generator)}


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Loss of the paper: Eq. 4 for the classifier, cross-entropy for a segmentation."""
    found = network(batch["image"])
    if isinstance(found, dict):
        exact = {name: value if value.dtype == torch.float64 else value.float() for name, value in found.items()}
        return AttentionGuidedLoss()(exact, batch)
    return PixelCrossEntropy()(found if found.dtype == torch.float64 else found.float(), batch["label"])


def gradient_of(network: nn.Module, batch: Batch, device: str, precision: torch.dtype) -> torch.Tensor:
    """Loss and all gradients in one vector, computed on a device in a precision; float64 is exact."""
    own = copy.deepcopy(network).to(device, torch.float64 if precision == torch.float64 else torch.float32).eval()
    moved = {name: value.to(device) for name, value in batch.items()}
    moved["image"] = moved["image"].to(next(own.parameters()).dtype)
    half = precision in (torch.bfloat16, torch.float16)
    with torch.autocast(device, precision if half else torch.bfloat16, enabled=half):
        loss = loss_of(own, moved)
    loss.backward()
    parts = [
        loss.detach().reshape(1),
        *(own_part.grad.flatten() for own_part in own.parameters() if own_part.grad is not None),
    ]
    return torch.cat([part.double().cpu() for part in parts])


def agreement(network: nn.Module, batch: Batch, device: str, precision: str) -> dict[str, Any]:
    """Relative errors of loss and gradient on the device and on the CPU, against float64 on the CPU."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TensorFloat-32 has 10 bits of float32's 23
        exact = gradient_of(network, batch, "cpu", torch.float64)
        errors = [
            ((gradient_of(network, batch, place, PRECISIONS[precision]) - exact).norm() / exact.norm()).item()
            for place in (device, "cpu")
        ]
    return {
        "passed": errors[0] <= MOST_TIMES_CPU * errors[1],
        "result": f"relative error {errors[0]:.1e}; CPU in {precision}: {errors[1]:.1e}",
    }


def same_draws(device: str) -> dict[str, Any]:
    """Whether size-balanced sampling draws the same scans while tensors default to the device."""
    labels, ratios = [1] * 6 + [0] * 6, [0.01, 0.02, 0.1, 0.2, 0.3, 0.4, 0.0, 0.0005, 0.0005, 0.0, 0.1, 0.2]
    expected = list(SizeBalancedSampler(labels, ratios, seed=3))
    torch.set_default_device(device)
    try:
        found = list(SizeBalancedSampler(labels, ratios, seed=3))
    finally:
        torch.set_default_device("cpu")
    return {
        "passed": found == expected,
        "result": f"{len(expected)} draws, {'equal' if found == expected else 'NOT equal'}",
    }


def training_step(network: nn.Module, batch: Batch, device: str) -> dict[str, Any]:
    """Seconds and most memory of a step: forward, backward, Adam, as the bundles train."""
    network = network.to(device).train()
    optimizer, scaler = torch.optim.Adam(network.parameters()), torch.amp.GradScaler(device, enabled=device != "cpu")
    moved, seconds = {name: value.to(device) for name, value in batch.items()}, []
    for _ in range(REPEATS + 1):
        _synchronize(device)
        began = time.perf_counter()
        with torch.autocast(device, torch.float16, enabled=device != "cpu"):
            loss = loss_of(network, moved)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        _synchronize(device)
        seconds.append(time.perf_counter() - began)
    memory = f", {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if device != "cpu" else ""
    said = f"{statistics.median(seconds[1:]):.2f} s a step of {len(batch['image'])}{memory}"
    return {"passed": bool(torch.isfinite(loss)), "result": said}


def scan_to_final(folder: Path) -> dict[str, Any]:
    """Seconds from a DICOM series of 512 x 512 x 300 to P_final, with a full-size classifier of first weights."""
    bundles = writable_folder(folder / "bundles")
    weights, series = bundles / "ensemble.pt", folder / "series"
    if not series.is_dir():
        write_dicom_series(series, shape=(512, 512, 300), spacing_mm=(0.73, 0.73, 1.0))
    torch.save(DualSamplingNet().state_dict(), weights)
    source = ScanSource(series)
    began = time.perf_counter()
    findings = Diagnosis(Weights(cap=weights), ROOT)(source)
    total = time.perf_counter() - began
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in source.clock.seconds.items())
    final = findings.scores.p_final if findings.scores else None
    return {"passed": final is not None, "result": f"{total:.1f} s ({stages})"}


def process_group(folder: Path) -> dict[str, Any]:
    """Train one epoch with the overlay for several GPUs, by torchrun with one process."""
    bundle = ROOT / "covid_cap_bundle"
    config = [str(bundle / "configs" / name) for name in ("train.yaml", "multi_gpu_train.json")]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=1",
        "-m",
        "monai.bundle",
    ]
    command += [
        "run",
        "training",
        "--config_file",
        str(config),
        "--bundle_root",
        str(bundle),
        "--dataset_dir",
        "phantom",
    ]
    command += [
        "--ckpt_dir",
        str(folder / "models"),
        "--output_dir",
        str(folder / "logs"),
        "--cache_dir",
        str(folder / "cache"),
    ]
    command += [
        "--epochs",
        "1",
        "--grid",
        "[24, 32, 32]",
        "--layers",
        "[1, 1, 1, 1]",
        "--block_inplanes",
        "[4, 8, 16, 32]",
    ]
    command += ["--batch_size", "4", "--num_workers", "0", "--no_max_pool", "true"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=ROOT)
    passed = done.returncode == 0 and (folder / "models" / "model.pt").is_file()
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {"passed": passed, "result": "model.pt written" if passed else " ".join(lines[-1:])[:200]}


def checks_of(folder: Path, device: str, sizes: Sizes) -> dict[str, Callable[[], dict[str, Any]]]:
    """All checks by name, in their order: numbers first, then time and memory."""

    def agrees(network: Callable[[], nn.Module], batch: Callable[[], Batch], precision: str) -> dict[str, Any]:
        torch.manual_seed(0)
        return agreement(network(), batch(), device, precision)

    small = Sizes(small=True)
    networks: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
        "classifier, Eq. 4": (lambda: WithSoftMask(small.classifier()), lambda: classifier_batch(small.grid, 2)),
        "segmentation, LSH": (small.segmentation, lambda: slice_batch(small.slice_size, 2)),
        "VB-Net": (
            lambda: VBNet(features=(8, 16, 32), convolutions=(1, 2), bottleneck_from=32),
            lambda: _masks_batch(32),
        ),
    }
    checks: dict[str, Callable[[], dict[str, Any]]] = {
        f"{name}, {precision}": lambda parts=parts, precision=precision: agrees(*parts, precision)  # type: ignore[misc]
        for name, parts in networks.items()
        for precision in PRECISIONS
    }
    batch = 2 if sizes.small else 20
    checks |= {
        "size-balanced draws": lambda: same_draws(device),
        f"classifier, step of {batch}": lambda: training_step(
            WithSoftMask(sizes.classifier()), classifier_batch(sizes.grid, batch), device
        ),
        "segmentation, step of 8": lambda: training_step(
            sizes.segmentation(), slice_batch(sizes.slice_size, 8), device
        ),
        "process group of one": lambda: process_group(writable_folder(folder / "group")),
    }
    if not sizes.small:
        checks["scan to P_final"] = lambda: scan_to_final(writable_folder(folder / "scan"))
    return checks


def _masks_batch(side: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, side, side, side, generator=generator)
    return {"image": image, "label": torch.randint(0, 3, image.shape, generator=generator)}


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def gpu_check(output: str, device: str = "cuda", seconds: float = 480, small: bool = False) -> None:
    """Run the checks that have no row yet; see the top of this file.

    Args:
        output: folder of the table and of temporary data.
        device: such as cuda.
        seconds: no check is started later than this after the start.
        small: small networks and grids.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device is {device}, but there is no CUDA device. --device cpu --small tries the script.")
    began, folder = time.monotonic(), writable_folder(absolute_path(output))
    known = folder / "gpu_check.json"
    rows = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    checks = checks_of(folder, device, Sizes(small))
    for name, check in checks.items():
        if name in rows or time.monotonic() - began > seconds:
            continue
        start = time.monotonic()
        try:
            row = check()
        except Exception as error:  # one failed check must not end the others
            row = {"passed": False, "result": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        rows[name] = {**row, "seconds": round(time.monotonic() - start, 1)}
        _logger.info("%s: %s", name, row["result"])
        with atomic_path(known) as temporary:
            temporary.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        if device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    table = _table({name: rows[name] for name in checks if name in rows}, device)
    with atomic_path(folder / "gpu_check.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    left = [name for name in checks if name not in rows]
    failed = [name for name in rows if not rows[name]["passed"]]
    if left or failed:
        raise SystemExit(f"{len(failed)} failed: {', '.join(failed) or 'none'}; not run: {', '.join(left) or 'none'}")


def _table(rows: Mapping[str, Mapping[str, Any]], device: str) -> str:
    name = "CPU" if device == "cpu" else torch.cuda.get_device_name(device)
    cells = [[one, "passed" if row["passed"] else "FAILED", row["result"], row["seconds"]] for one, row in rows.items()]
    table = markdown_table(["check", "", "result", "s"], cells)
    return f"{name}, torch {torch.__version__}\n\n{table}\n"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with ended_with_a_message():
        fire.Fire(gpu_check)
