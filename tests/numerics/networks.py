"""The networks under test, small: each with a size that it is used at, and the smallest that it takes."""

from dataclasses import dataclass

import torch
from custom_components import AttentionResNet, DualSamplingNet, ResidualAttentionUNet, VBNet, WithSoftMask
from torch import nn

STAGES = {"layers": (1, 1, 1, 1), "block_inplanes": (4, 6, 8, 8)}
ATTENTION = {"features": (8, 16, 32), "num_heads": 2, "bucket_size": 8}


@dataclass(frozen=True)
class Small:
    network: nn.Module
    size: tuple[int, ...]
    smallest: tuple[int, ...]


class Ensemble(nn.Module):
    """DualSamplingNet for scans whose ratio is inside the thresholds."""

    def __init__(self) -> None:
        super().__init__()
        self.network = DualSamplingNet(AttentionResNet(**STAGES), AttentionResNet(**STAGES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x, torch.full((len(x),), 0.01))


NAMES = ("resnet", "dual", "vbnet", "unet lsh", "unet full", "unet none", "unet plain")


def small(name: str) -> Small:
    torch.manual_seed(0)
    if name == "resnet":
        return Small(WithSoftMask(AttentionResNet(**STAGES)).eval(), (20, 32, 48), (1, 1, 1))
    if name == "dual":
        return Small(Ensemble().eval(), (20, 32, 48), (1, 1, 1))
    if name == "vbnet":
        return Small(
            VBNet(features=(4, 8, 16), convolutions=(1, 2), bottleneck_from=16).eval(), (17, 30, 12), (1, 1, 1)
        )
    attention = {"plain": "lsh"}.get(name.split()[1], name.split()[1])
    encoder = "plain" if name == "unet plain" else "resnext"
    return Small(ResidualAttentionUNet(**ATTENTION, attention=attention, encoder=encoder).eval(), (33, 47), (8, 8))
