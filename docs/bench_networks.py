"""Seconds and memory of one slice of 369 x 369 through the networks of Table II and a peer; prints a Markdown table.

Each network in a process of its own, float32, batch 1; the median of the repeats. FlexibleUNet, whose sizes are
multiples of 32, gets the next larger one.

    python docs/bench_networks.py [--size 369] [--repeats 3]
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import fire
import torch
from custom_components import ResidualAttentionUNet
from monai.bundle import ConfigParser
from process_memory import memory, reset_peak

OURS = {"M": ("resnext", "lsh"), "M-A": ("resnext", "none"), "M-R": ("plain", "lsh"), "U-Net": ("plain", "none")}
PEER = "FlexibleUNet"
PEER_CONFIG = Path(__file__).resolve().parents[1] / "covid_seg_bundle" / "configs" / "networks" / "flexible_unet.yaml"


def network_of(name: str) -> torch.nn.Module:
    """A network of the table, with first weights."""
    if name == PEER:
        return ConfigParser(ConfigParser.load_config_file(PEER_CONFIG)).get_parsed_content("network_def")
    encoder, attention = OURS[name]
    return ResidualAttentionUNet(encoder=encoder, attention=attention)


def measure(name: str, size: int, repeats: int) -> None:
    """Run one network in this process; print its figures as JSON."""
    network = network_of(name)
    size = -(-size // 32) * 32 if name == PEER else size
    figures: dict[str, float] = {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    image = torch.rand(1, 1, size, size)
    for step in ("forward", "training"):
        network.train(step == "training")
        seconds = []
        reset_peak()
        held = memory("VmRSS")
        for _ in range(repeats):
            start = time.perf_counter()
            with torch.set_grad_enabled(step == "training"):
                logits = network(image)
            if step == "training":
                logits.square().mean().backward()
            seconds.append(time.perf_counter() - start)
        figures |= {f"{step}_s": statistics.median(seconds), f"{step}_bytes": memory("VmHWM") - held}
    sys.stdout.write(json.dumps(figures) + "\n")


def table(size: int = 369, repeats: int = 3) -> None:
    """Print the table."""
    sys.stdout.write(
        f"CPU, {torch.get_num_threads()} threads, float32, 1 x 1 x {size} x {size}; median of {repeats}\n\n"
    )
    sys.stdout.write(
        "| network | parameters | forward: s | GiB | forward + backward: s | GiB |\n|---|---|---|---|---|---|\n"
    )
    for name in (*OURS, PEER):
        command = [sys.executable, __file__, "measure", name, str(size), str(repeats)]
        f = json.loads(
            subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()[-1]
        )
        cells = [f"{f[f'{step}_s']:.2f} | {f[f'{step}_bytes'] / 2**30:.2f}" for step in ("forward", "training")]
        sys.stdout.write(f"| {name} | {f['parameters'] / 1e6:.2f} M | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    fire.Fire({"measure": measure} if sys.argv[1:2] == ["measure"] else table)
