"""VB-Net: a V-Net with bottleneck convolutions, for lungs and infection.

Network for the lung and infection masks of X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), Sec. IV-B.
V-Net: F. Milletari et al., 3DV 2016.

    image (B, 1, D, H, W), padded to multiples of 16
      conv 3x3x3                16 x D     ----------------skip---> up, concatenate, 1 convolution     32
        down, 1 convolution     32 x D/2   ------------skip---> up, concatenate, 2 bottlenecks   64
          down, 2 convolutions    64 x D/4   ------skip---> up, concatenate, 3 bottlenecks   128
            down, 3 bottlenecks     128 x D/8  -skip---> up, concatenate, 3 bottlenecks   256
              down, 3 bottlenecks     256 x D/16
      conv 1x1x1                                                             logits (B, 3, D, H, W)

A bottleneck is 1x1x1 to a quarter of the channels, 3x3x3, 1x1x1 back; stages with 64 or more input and output channels
use it. 2.16 million parameters. Each stage is residual: its output is added to its input.
Departs from V-Net: kernel size 3, ReLU, and instance instead of batch normalisation: with few patches per batch and
random intensities, running statistics of batch normalisation fit no patch. Instance statistics depend on the window,
so inference must use windows as large as the training patches.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import Convolution
from torch import nn

NORMS = ("instance", "batch")


class VBNet(nn.Module):
    """V-Net with bottlenecks: logits of background, lung and infection for a CT of any size.

    Fully convolutional and scriptable; the input is padded with zeros inside and the output cropped.

    Args:
        spatial_dims: 3, or 2 for slices.
        in_channels: channels of the image.
        out_channels: classes including background.
        features: channels of the levels from full size down; each twice the previous one.
        convolutions: number of convolutions or bottlenecks of each level below the first; the decoder mirrors them.
        bottleneck_from: stages with at least this many input and output channels use bottlenecks.
        bottleneck_ratio: channels of a stage divided by the channels inside its bottlenecks.
        norm: ``instance`` or ``batch``.

    Raises:
        ValueError: if features do not double, or do not fit convolutions or ratio, or the norm is unknown.

    Example:
        >>> network = VBNet(features=(4, 8, 16), convolutions=(1, 2), bottleneck_from=16).eval()
        >>> network(torch.zeros(2, 1, 17, 30, 5)).shape
        torch.Size([2, 3, 17, 30, 5])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 3,
        features: Sequence[int] = (16, 32, 64, 128, 256),
        convolutions: Sequence[int] = (1, 2, 3, 3),
        bottleneck_from: int = 64,
        bottleneck_ratio: int = 4,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        _check(features, convolutions, bottleneck_from, bottleneck_ratio, norm)
        # What weights need to be used: see custom_components.weights.model_card.
        self.definition = {
            "features": list(features),
            "convolutions": list(convolutions),
            "bottleneck_from": bottleneck_from,
            "bottleneck_ratio": bottleneck_ratio,
            "norm": norm,
        }
        self.stride = 2 ** len(convolutions)
        skips, below = list(features[:-1]), [*(2 * channels for channels in features[1:-1]), features[-1]]

        def ratio(taken: int, given: int) -> int:
            return bottleneck_ratio if min(taken, given) >= bottleneck_from else 1

        self.stem = _convolution(spatial_dims, in_channels, features[0], 3, norm, relu=True)
        self.down = nn.ModuleList(
            DownStage(spatial_dims, channels, count, ratio(channels, 2 * channels), norm)
            for channels, count in zip(skips, convolutions, strict=True)
        )
        self.up = nn.ModuleList(
            UpStage(spatial_dims, taken, skip, count, ratio(taken, 2 * skip), norm)
            for taken, skip, count in zip(below[::-1], skips[::-1], convolutions[::-1], strict=True)
        )
        self.head = Convolution(spatial_dims, 2 * features[0], out_channels, kernel_size=1, conv_only=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of each voxel.

        Args:
            x: CT, windowed to [0, 1], shape (B, in_channels, *size), any size.

        Returns:
            Shape (B, out_channels, *size).
        """
        size = list(x.shape[2:])
        x = self.stem(F.pad(x, self._padding(size)))
        skips = [x]
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for number, stage in enumerate(self.up):
            x = stage(x, skips[len(skips) - 2 - number])
        x = self.head(x)
        for axis, length in enumerate(size):
            x = x.narrow(axis + 2, 0, length)
        return x

    def _padding(self, size: list[int]) -> list[int]:
        """Zero padding to multiples of the network's stride, in the order of F.pad: last axis first.

        At least one axis gets two multiples because instance normalisation needs two voxels at the lowest level.
        """
        padding: list[int] = []
        for axis in range(len(size)):
            length = size[len(size) - 1 - axis]
            padding += [0, -length % self.stride]
        if max(size) <= self.stride:
            padding[1] += self.stride
        return padding


class DownStage(nn.Module):
    """Convolution of stride 2 that doubles the channels, then a residual block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: input channels; the output has twice as many.
        count: convolutions or bottlenecks of the block.
        ratio: bottleneck ratio; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, count: int, ratio: int, norm: str) -> None:
        super().__init__()
        self.down = _convolution(spatial_dims, in_channels, 2 * in_channels, 2, norm, relu=True, strides=2, padding=0)
        self.block = ResidualBlock(spatial_dims, 2 * in_channels, count, ratio, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *size) to (B, 2 in_channels, *size / 2)."""
        return self.block(self.down(x))


class UpStage(nn.Module):
    """Transposed convolution of stride 2, concatenation with the skip, then a residual block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels from below.
        skip_channels: channels of the skip; the output has twice as many.
        count: convolutions or bottlenecks of the block.
        ratio: bottleneck ratio; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, skip_channels: int, count: int, ratio: int, norm: str
    ) -> None:
        super().__init__()
        stride = {"strides": 2, "padding": 0, "output_padding": 0, "is_transposed": True}
        self.up = _convolution(spatial_dims, in_channels, skip_channels, 2, norm, relu=True, **stride)
        self.block = ResidualBlock(spatial_dims, 2 * skip_channels, count, ratio, norm)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *size / 2) and the skip (B, skip_channels, *size) to (B, 2 skip_channels, *size)."""
        return self.block(torch.cat([self.up(x), skip], dim=1))


class ResidualBlock(nn.Module):
    """``ReLU(x + f(x))``, where f is a sequence of convolutions or bottlenecks with ReLU in between.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in and out.
        count: number of convolutions or bottlenecks.
        ratio: bottleneck ratio; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, channels: int, count: int, ratio: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [_layer(spatial_dims, channels, ratio, norm), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, *size) to the same shape."""
        return (x + self.layers(x)).relu_()


class Bottleneck(nn.Sequential):
    """1x1x1 to fewer channels, 3x3x3, 1x1x1 back to all channels; no ReLU after the last.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in and out.
        ratio: channels divided by the inner channels.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, channels: int, ratio: int, norm: str) -> None:
        few = channels // ratio
        super().__init__(
            _convolution(spatial_dims, channels, few, 1, norm, relu=True),
            _convolution(spatial_dims, few, few, 3, norm, relu=True),
            _convolution(spatial_dims, few, channels, 1, norm),
        )


def _layer(spatial_dims: int, channels: int, ratio: int, norm: str) -> nn.Module:
    if ratio > 1:
        return Bottleneck(spatial_dims, channels, ratio, norm)
    return _convolution(spatial_dims, channels, channels, 3, norm)


def _convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int, norm: str, relu: bool = False, **more: Any
) -> Convolution:
    """Convolution, normalisation and optional ReLU, in place; the normalisation has the bias."""
    return Convolution(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=kernel,
        norm=(norm, {"affine": True}),
        act=("relu", {"inplace": True}) if relu else None,
        bias=False,
        **more,
    )


def _check(
    features: Sequence[int], convolutions: Sequence[int], bottleneck_from: int, bottleneck_ratio: int, norm: str
) -> None:
    if len(features) < 2 or min(features) < 1 or any(2 * upper != lower for upper, lower in pairwise(features)):
        raise ValueError(
            f"features are {list(features)}. Expected at least two, each twice the previous one: [16, 32]."
        )
    if len(convolutions) != len(features) - 1 or min(convolutions) < 1:
        raise ValueError(
            f"convolutions are {list(convolutions)} and features {list(features)}. Expected a number of 1 or more for "
            f"each level below the first: {len(features) - 1} numbers."
        )
    reduced = [channels for channels in features if channels >= bottleneck_from]
    if bottleneck_ratio < 1 or any(channels % bottleneck_ratio for channels in reduced):
        raise ValueError(
            f"bottleneck_ratio is {bottleneck_ratio}. Expected a divisor of the channels from {bottleneck_from} on: "
            f"{reduced}."
        )
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}. Expected one of: {', '.join(NORMS)}.")
