"""Residual Attention U-Net: a U-Net with a ResNeXt encoder and LSH attention in its decoder.

X. Chen, L. Yao, Y. Zhang: Residual Attention U-Net for Automated Multi-Class Segmentation of COVID-19 Chest CT
Images, 2020, Fig. 1 and Sec. II.

    image (B, 1, 369, 369)
      stem + ResNeXt    32 x 369 x 369 -----------------skip----> up, concatenate, x + attention(x), 2 conv
        pool, ResNeXt   64 x 185 x 185 ------------skip----> ...
          pool, ResNeXt    128 x 93 x 93 ------skip----> ...
            pool, ResNeXt     256 x 47 x 47 -skip-> up, concatenate, x + attention(x), 2 conv   256 x 47 x 47
              pool, ResNeXt      512 x 24 x 24
      1x1 convolution                                              logits (B, 4, 369, 369)

The paper gives neither width nor depth of its blocks, nor bucket size or rounds of its attention: widths 32..512 (half
precision below 25 MB), two blocks a level, buckets of 32 pixels, two rounds.
Departs from the paper: the last layer gives logits (its sigmoid does not go with its multi-class cross-entropy; see
``PixelCrossEntropy``); instance instead of unnamed normalisation, so that a slice's result does not depend on the
others of its batch; the global average pooling of its Sec. II-B has no place in a segmentation network.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from custom_components.networks.lsh.attention import FullAttention, LSHAttention, SharedQKAttention
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool
from torch import nn


def _convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int, relu: bool = True, groups: int = 1
) -> Convolution:
    """Convolution, instance normalisation as group norm (keeps channels last on a CPU), ReLU in place.

    No bias: the normalisation removes it, and on a constant image it would amplify the rounding error.
    """
    norm = ("group", {"num_groups": out_channels})
    act = ("relu", {"inplace": True}) if relu else None
    return Convolution(
        spatial_dims, in_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act, groups=groups, bias=False
    )


class ResNeXtBlock(nn.Module):
    """Aggregated residual block: ``y = sum_j T_j(i) + i`` over C paths (Sec. II-B), as grouped convolutions.

    Each T_j is 1x1 - 3x3 - 1x1; the C paths side by side are one grouped convolution (Xie et al. 2017, Fig. 3c).
    Where the channels change, the shortcut is a 1x1 convolution.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out.
        cardinality: number of paths, C; must divide ``out_channels``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, cardinality: int) -> None:
        super().__init__()
        self.reduce = _convolution(spatial_dims, in_channels, out_channels, 1)
        self.grouped = _convolution(spatial_dims, out_channels, out_channels, 3, groups=cardinality)
        self.restore = _convolution(spatial_dims, out_channels, out_channels, 1, relu=False)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = _convolution(spatial_dims, in_channels, out_channels, 1, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        return (self.restore(self.grouped(self.reduce(x))) + self.shortcut(x)).relu_()


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions with normalisation and ReLU: one level of the plain U-Net."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(
            _convolution(spatial_dims, in_channels, out_channels, 3),
            _convolution(spatial_dims, out_channels, out_channels, 3),
        )


class ResNeXtStage(nn.Sequential):
    """Two ResNeXt blocks; the first level starts with a 3x3 stem."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, cardinality: int, stem: bool) -> None:
        layers: list[nn.Module] = []
        if stem:
            layers.append(_convolution(spatial_dims, in_channels, out_channels, 3))
            in_channels = out_channels
        layers.append(ResNeXtBlock(spatial_dims, in_channels, out_channels, cardinality))
        layers.append(ResNeXtBlock(spatial_dims, out_channels, out_channels, cardinality))
        super().__init__(*layers)


class DecoderStage(nn.Module):
    """Up-sample, concatenate the skip, ``x + attention(x)``, two 3x3 convolutions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels from below; the stage gives half of them.
        attention: token attention (B, L, in_channels) -> same, or None.
    """

    def __init__(self, spatial_dims: int, in_channels: int, attention: nn.Module | None) -> None:
        super().__init__()
        half = in_channels // 2
        self.up = Convolution(
            spatial_dims, in_channels, half, kernel_size=2, strides=2, padding=0, is_transposed=True, conv_only=True
        )
        self.has_attention = attention is not None
        self.attention = nn.Identity() if attention is None else attention
        self.convolutions = DoubleConvolution(spatial_dims, in_channels, half)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *half the size) and the skip (B, in_channels / 2, *size) to the skip's shape."""
        x = self.up(x)
        for axis in range(2, x.dim()):  # after an odd size the result is one too large
            x = x.narrow(axis, 0, skip.shape[axis])
        x = torch.cat([skip, x], dim=1)
        if self.has_attention:
            tokens = x.flatten(2).transpose(1, 2)  # (B, L, in_channels)
            x = x + self.attention(tokens).transpose(1, 2).reshape(x.shape)
        return self.convolutions(x)


class ResidualAttentionUNet(nn.Module):
    """The paper's network M and its ablations: M-A, M-R and U-Net (Table II).

    ========  =========  =========
    Table II  encoder    attention
    ========  =========  =========
    M         resnext    lsh
    M - A     resnext    none
    M - R     plain      lsh
    U-Net     plain      none
    ========  =========  =========

    Args:
        spatial_dims: 2 (the paper) or 3.
        in_channels: image channels.
        out_channels: classes including background.
        features: channels of the levels, top to bottom; each twice the previous one (Sec. II-A).
        encoder: ``resnext`` or ``plain`` (two 3x3 convolutions a level).
        attention: ``lsh``, ``full`` (quadratic, for small images and for export) or ``none``.
        cardinality: paths C of a ResNeXt block.
        num_heads: attention heads h.
        bucket_size: mean number of pixels in a hash bucket.
        num_rounds: hash rounds n_r.
        seed: seed of the hash rotations.
        zero_init_attention: whether attention starts at zero, ``x + 0``: M then starts as M-A.

    Raises:
        ValueError: for an unknown option, or features that do not double or do not fit cardinality and heads.

    Example:
        >>> network = ResidualAttentionUNet(features=(8, 16, 32)).eval()
        >>> network(torch.zeros(2, 1, 33, 47)).shape
        torch.Size([2, 4, 33, 47])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 4,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        encoder: str = "resnext",
        attention: str = "lsh",
        cardinality: int = 8,
        num_heads: int = 4,
        bucket_size: int = 32,
        num_rounds: int = 2,
        seed: int = 0,
        zero_init_attention: bool = False,
    ) -> None:
        super().__init__()
        # What weights need to be used, without what has no effect: see custom_components.weights.model_card.
        self.definition: dict[str, Any] = {"features": list(features), "encoder": encoder, "attention": attention}
        if encoder == "resnext":
            self.definition |= {"cardinality": cardinality}
        if attention != "none":
            self.definition |= {"num_heads": num_heads}
        if attention == "lsh":
            self.definition |= {"bucket_size": bucket_size, "num_rounds": num_rounds, "seed": seed}
        _check_switch("encoder", encoder, ("resnext", "plain"))
        _check_switch("attention", attention, ("lsh", "full", "none"))
        _check_features(features, cardinality if encoder == "resnext" else 1)
        self.min_size = 2 ** len(features)
        self.encoder = nn.ModuleList()
        for level, channels in enumerate(features):
            before = in_channels if level == 0 else features[level - 1]
            if encoder == "resnext":
                self.encoder.append(ResNeXtStage(spatial_dims, before, channels, cardinality, stem=level == 0))
            else:
                self.encoder.append(DoubleConvolution(spatial_dims, before, channels))
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=2, stride=2, ceil_mode=True)
        self.decoder = nn.ModuleList()
        for channels in reversed(features[1:]):
            block: SharedQKAttention | None = None
            if attention == "lsh":
                block = LSHAttention(channels, num_heads, bucket_size, num_rounds, seed)
            elif attention == "full":
                block = FullAttention(channels, num_heads)
            if block is not None and zero_init_attention:
                nn.init.zeros_(block.to_out.weight)
                nn.init.zeros_(block.to_out.bias)
            self.decoder.append(DecoderStage(spatial_dims, channels, block))
        self.output = Convolution(spatial_dims, features[0], out_channels, kernel_size=1, conv_only=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment.

        Args:
            image: (B, in_channels, *spatial), any size of at least 2 to the number of levels (32 by default).

        Returns:
            Logits (B, out_channels, *spatial).

        Raises:
            ValueError: if the image is too small.
        """
        if min(image.shape[2:]) < self.min_size:
            raise ValueError(f"Image of size {list(image.shape[2:])} is too small: pad it to {self.min_size} or more.")
        skips: list[torch.Tensor] = []
        x = image
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else self.pool(x))
            skips.append(x)
        for level, decoder in enumerate(self.decoder):
            x = decoder(x, skips[-2 - level])
        return self.output(x)


def _check_switch(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


def _check_features(features: Sequence[int], cardinality: int) -> None:
    if len(features) < 2 or any(below != 2 * above for above, below in pairwise(features)):
        raise ValueError(f"features must be two or more widths, each twice the previous one, got {tuple(features)}.")
    if features[0] % cardinality:
        raise ValueError(f"cardinality {cardinality} must divide the first of features, {features[0]}.")
