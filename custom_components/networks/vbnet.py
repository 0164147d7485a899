"""VB-Net: a V-Net whose convolutions are bottlenecks, for lungs and infection.

The network that X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), take their masks from (Sec. IV-B).
V-Net: F. Milletari et al., 3DV 2016.

    image (B, 1, D, H, W), padded to multiples of 16
      conv 3x3x3                16 x D     ----------------skip---> up, concatenate, 1 convolution     32
        down, 1 convolution     32 x D/2   ------------skip---> up, concatenate, 2 bottlenecks   64
          down, 2 convolutions    64 x D/4   ------skip---> up, concatenate, 3 bottlenecks   128
            down, 3 bottlenecks     128 x D/8  -skip---> up, concatenate, 3 bottlenecks   256
              down, 3 bottlenecks     256 x D/16
      conv 1x1x1                                                             logits (B, 3, D, H, W)

A bottleneck is 1x1x1 to a quarter of the channels, 3x3x3, 1x1x1 back. It stands where a stage takes and gives 64
channels or more; 2.16 million parameters in all. What a stage computes is added to what it started from.
Departs from V-Net: kernels of 3, ReLU, and instance in place of batch normalisation: with patches few at a time, whose
greys are changed at random, the running statistics of batch normalisation fit no patch. Statistics of an instance are
those of the piece that is seen, so a scan is to be seen in windows as large as the patches of the training.
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
        out_channels: classes with background.
        features: channels of the levels from full size down; each twice the one above.
        convolutions: convolutions, or bottlenecks, of each level below the first; the way up mirrors them.
        bottleneck_from: a stage that takes and gives at least this many channels consists of bottlenecks.
        bottleneck_ratio: channels of a stage by those inside its bottlenecks.
        norm: ``instance`` or ``batch``.

    Raises:
        ValueError: when features do not double, or do not suit convolutions or ratio, or for an unknown norm.

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
        self.stride = 2 ** len(convolutions)
        skips, below = list(features[:-1]), [*(2 * channels for channels in features[1:-1]), features[-1]]

        def ratio(taken: int, given: int) -> int:
            return bottleneck_ratio if min(taken, given) >= bottleneck_from else 1

        self.stem = _convolution(spatial_dims, in_channels, features[0], 3, norm, act="relu")
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
        """Zeros to append for multiples of the network's stride, in the order of F.pad: last axis first.

        At least one axis gets two multiples, since instance normalisation needs two voxels at the lowest level.
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
        in_channels: channels taken; twice as many are given.
        count: convolutions or bottlenecks of the block.
        ratio: of its bottlenecks; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, count: int, ratio: int, norm: str) -> None:
        super().__init__()
        self.down = _convolution(spatial_dims, in_channels, 2 * in_channels, 2, norm, act="relu", strides=2, padding=0)
        self.block = ResidualBlock(spatial_dims, 2 * in_channels, count, ratio, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *size) to (B, 2 in_channels, *size / 2)."""
        return self.block(self.down(x))


class UpStage(nn.Module):
    """Transposed convolution of stride 2, concatenation with the skip, then a residual block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels from below.
        skip_channels: channels of the skip; twice as many are given.
        count: convolutions or bottlenecks of the block.
        ratio: of its bottlenecks; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, skip_channels: int, count: int, ratio: int, norm: str
    ) -> None:
        super().__init__()
        stride = {"strides": 2, "padding": 0, "output_padding": 0, "is_transposed": True}
        self.up = _convolution(spatial_dims, in_channels, skip_channels, 2, norm, act="relu", **stride)
        self.block = ResidualBlock(spatial_dims, 2 * skip_channels, count, ratio, norm)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *size / 2) and the skip (B, skip_channels, *size) to (B, 2 skip_channels, *size)."""
        return self.block(torch.cat([self.up(x), skip], dim=1))


class ResidualBlock(nn.Module):
    """``ReLU(x + f(x))``, f some convolutions or bottlenecks with ReLU between them.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in and out.
        count: how many.
        ratio: of the bottlenecks; 1 for plain convolutions.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, channels: int, count: int, ratio: int, norm: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(count):
            layers += [_layer(spatial_dims, channels, ratio, norm), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, *size) to the same shape."""
        return torch.relu(x + self.layers(x))


class Bottleneck(nn.Sequential):
    """1x1x1 to fewer channels, 3x3x3 among them, 1x1x1 back to all; no ReLU after the last.

    Args:
        spatial_dims: 2 or 3.
        channels: channels in and out.
        ratio: channels by those in between.
        norm: ``instance`` or ``batch``.
    """

    def __init__(self, spatial_dims: int, channels: int, ratio: int, norm: str) -> None:
        few = channels // ratio
        super().__init__(
            _convolution(spatial_dims, channels, few, 1, norm, act="relu"),
            _convolution(spatial_dims, few, few, 3, norm, act="relu"),
            _convolution(spatial_dims, few, channels, 1, norm),
        )


def _layer(spatial_dims: int, channels: int, ratio: int, norm: str) -> nn.Module:
    if ratio > 1:
        return Bottleneck(spatial_dims, channels, ratio, norm)
    return _convolution(spatial_dims, channels, channels, 3, norm)


def _convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel: int, norm: str, act: str | None = None, **more: Any
) -> Convolution:
    """Convolution, normalisation and, when asked for, ReLU; the normalisation brings the bias."""
    return Convolution(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=kernel,
        norm=(norm, {"affine": True}),
        act=act,
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
