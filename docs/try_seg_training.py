"""A short training of covid_seg_bundle's network on small whole slices, to see how fast a setting learns.

    python docs/try_seg_training.py SLICES [--learning_rate 0.003] [--batch_size 4] [--epochs 12] [--size 128]
        [--encoder resnext] [--optimizer adam] [--weight "[0.5, 1, 1, 4]"] [--init_path last.pt]

SLICES has images/ and masks/ as PNG. The second block of 16 in 80 and its two neighbours are left out. M-A (or the
U-Net, `--encoder plain`), Dice and cross-entropy, mirrored at random, one cycle of the learning rate. Prints the mean
loss of each epoch and the Dice of all pixels of each lesion class, of the slices that were trained on and of those left
out. With `init_path` the network begins with those weights, but for its last layer.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import fire
import numpy as np
import torch
from custom_components import DiceCrossEntropy, ResidualAttentionUNet
from custom_components.handlers.load_weights import LoadWeights
from PIL import Image

LEFT_OUT, BESIDE = range(16, 32), (15, 32)


def main(
    slices: str,
    learning_rate: float = 0.003,
    batch_size: int = 4,
    epochs: int = 12,
    size: int = 128,
    encoder: str = "resnext",
    optimizer: str = "adam",
    weight: Sequence[float] | None = None,
    init_path: str = "",
) -> None:
    """Train and print."""
    files = sorted(Path(slices, "images").glob("*.png"))
    trained = [path for number, path in enumerate(files) if number not in (*LEFT_OUT, *BESIDE)]
    sides = {"trained on": load(trained, size), "left out": load([files[number] for number in LEFT_OUT], size)}
    torch.manual_seed(0)
    network = ResidualAttentionUNet(encoder=encoder, attention="none")
    if init_path:
        LoadWeights(init_path, network, own="output")()
    start = time.perf_counter()
    losses = train(network, *sides["trained on"], learning_rate, batch_size, epochs, optimizer, weight)
    print(f"{time.perf_counter() - start:.0f} s; loss", " ".join(f"{loss:.2f}" for loss in losses))  # noqa: T201
    for side, pair in sides.items():
        print(f"{side}:", " ".join(f"{dice:.3f}" for dice in pooled_dice(network, *pair)))  # noqa: T201


def load(files: Sequence[Path], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] and labels, each (slices, 1, size, size)."""
    shape = (size, size)
    images = [np.asarray(Image.open(path).resize(shape, Image.Resampling.BILINEAR), np.float32) / 255 for path in files]
    masks = [path.parents[1] / "masks" / path.name for path in files]
    labels = [np.asarray(Image.open(path).resize(shape, Image.Resampling.NEAREST), np.float32) for path in masks]
    return torch.tensor(np.stack(images))[:, None], torch.tensor(np.stack(labels))[:, None]


def train(
    network: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    learning_rate: float,
    batch_size: int,
    epochs: int,
    optimizer: str,
    weight: Sequence[float] | None,
) -> list[float]:
    """Mean loss of each epoch."""
    loss_function = DiceCrossEntropy(weight=None if weight is None else list(weight))
    if optimizer == "sgd":
        momentum = {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
        steps: torch.optim.Optimizer = torch.optim.SGD(network.parameters(), learning_rate, **momentum)
    else:
        steps = torch.optim.Adam(network.parameters(), learning_rate)
    batches = len(images) // batch_size
    cycle = torch.optim.lr_scheduler.OneCycleLR(steps, learning_rate, total_steps=epochs * batches, pct_start=0.15)
    generator, losses = torch.Generator().manual_seed(0), []
    network.train()
    for _ in range(epochs):
        order, total = torch.randperm(len(images), generator=generator), 0.0
        for chosen in order[: batches * batch_size].view(batches, batch_size):
            batch, truth = images[chosen], labels[chosen]
            if torch.rand(1, generator=generator) < 0.5:
                batch, truth = batch.flip(-1), truth.flip(-1)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(batch)
            loss = loss_function(logits.float(), truth)
            steps.zero_grad()
            loss.backward()
            steps.step()
            cycle.step()
            total += loss.item() / batches
        losses.append(total)
    return losses


def pooled_dice(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Dice of each lesion class with the pixels of all slices together."""
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.cat([network(image[None]).argmax(1) for image in images])
    pairs = [(found == value, labels[:, 0] == value) for value in (1, 2, 3)]
    return [float(2 * (one & other).sum() / (one.sum() + other.sum()).clamp(min=1)) for one, other in pairs]


if __name__ == "__main__":
    fire.Fire(main)
