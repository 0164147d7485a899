"""3D ResNet34 with online attention: one branch of the dual-sampling attention network.

    scan (B, 1, 138, 256, 256)
      -> conv 7x7x7 / 2, batch norm, ReLU -> (B, 64, 69, 128, 128)
      -> max-pool 3x3x3 / 2               -> (B, 64, 35, 64, 64)
      -> layer1, 3 blocks                 -> (B, 64, 35, 64, 64)
      -> layer2, 4 blocks / 2             -> (B, 128, 18, 32, 32)
      -> layer3, 6 blocks / 2             -> (B, 256, 9, 16, 16)
      -> layer4, 3 blocks, stride 1       -> (B, 512, 9, 16, 16)   features f, 1/16 of the input
      -> global average, FC               -> (B, 1)                logit of COVID-19; with three classes (B, 3)
      -> OnlineAttention(f, FC weight)    -> (B, 1, 138, 256, 256)

X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), Sec. III-A, Fig. 2.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from custom_components.infection_size import COVID, THREE_CLASSES
from custom_components.networks.online_attention import OnlineAttention
from monai.networks.nets.resnet import ResNet
from torch import nn

STAGES = 4


class AttentionResNet(ResNet):
    """MONAI's 3D ResNet with stride 1 in the last stage, one logit, and the attention map of Eq. (1) and (2).

    Adds to MONAI: the stride of the last stage, and the methods ``features``, ``with_soft_mask`` and ``explain``.
    The defaults give the paper's ResNet34: 63.47 million parameters, feature map 1/16 of the input in each axis.
    Fully convolutional: accepts any input size with 1 channel. Scriptable.

    Departs from the paper: the paper says "the last residual block" has stride 1. Here the last stage has stride 1
    (only its first block has a stride), because only then the feature map is 1/16, as the paper states.

    Args:
        layers: blocks per stage, Sec. III-A: ResNet34.
        block_inplanes: channels of each stage.
        in_channels: channels of the input.
        conv1_t_stride: stride of the first convolution.
        no_max_pool: whether to omit the max-pool: feature map 1/8 of the input, for small inputs.
        layer4_stride: stride of the last stage: 1 in the paper, 2 in the original ResNet34.
        alpha: steepness of the soft mask, Sec. III-B.
        beta: threshold of the soft mask, Sec. III-B.
        num_classes: 1 for the paper's single logit of COVID-19; 3 for the logits of CAP, COVID-19 and normal scans (not
            in the paper). The attention is that of COVID-19 in both: Eq. (1) with its row of the weights.

    Raises:
        ValueError: if there are not four stages, or a number is not positive.

    Example:
        >>> network = AttentionResNet(block_inplanes=(2, 3, 4, 5)).eval()
        >>> scan = torch.rand(1, 1, 48, 32, 64)
        >>> network(scan).shape, network.features(scan).shape, network.explain(scan)["attention"].shape
        (torch.Size([1, 1]), torch.Size([1, 5, 3, 2, 4]), torch.Size([1, 1, 48, 32, 64]))
    """

    if TYPE_CHECKING:  # TorchScript would treat module annotations as interfaces
        fc: nn.Linear
        layer4: nn.Sequential

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        block_inplanes: Sequence[int] = (64, 128, 256, 512),
        in_channels: int = 1,
        conv1_t_stride: int = 2,
        no_max_pool: bool = False,
        layer4_stride: int = 1,
        alpha: float = 100.0,
        beta: float = 0.4,
        num_classes: int = 1,
    ) -> None:
        if num_classes not in (1, len(THREE_CLASSES)):
            raise ValueError(f"num_classes is {num_classes}. Expected 1 (logit of COVID-19) or 3 (with normal scans).")
        _check_stages(layers, block_inplanes)
        _check_positive(in_channels=in_channels, conv1_t_stride=conv1_t_stride, layer4_stride=layer4_stride)
        super().__init__(
            block="basic",
            layers=list(layers),
            block_inplanes=list(block_inplanes),
            spatial_dims=3,
            n_input_channels=in_channels,
            conv1_t_stride=conv1_t_stride,
            no_max_pool=no_max_pool,
            num_classes=num_classes,
        )
        self.online_attention = OnlineAttention(alpha, beta)
        # What weights need to be used: see custom_components.weights.model_card.
        self.definition = {
            "layers": list(layers),
            "block_inplanes": list(block_inplanes),
            "no_max_pool": no_max_pool,
            "conv1_t_stride": conv1_t_stride,
            "layer4_stride": layer4_stride,
            **({} if num_classes == 1 else {"num_classes": num_classes}),
        }
        self.covid_row = 0 if num_classes == 1 else COVID
        self._set_layer4_stride(layer4_stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logit of COVID-19, or of each class.

        Args:
            x: lung-masked CT in [0, 1], shape (B, 1, D, H, W).

        Returns:
            Shape (B, num_classes).
        """
        return self.classify(self.features(x))

    @torch.jit.export
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature map f before the global average pooling.

        Args:
            x: shape (B, 1, D, H, W).

        Returns:
            Shape (B, C, D/16, H/16, W/16), rounded up at each stride.
        """
        x = self.act(self.bn1(self.conv1(x)))
        if not self.no_max_pool:
            x = self.maxpool(x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    @torch.jit.export
    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Global average pooling and the fully connected layer.

        Args:
            features: shape (B, C, d, h, w).

        Returns:
            Logits, shape (B, num_classes).
        """
        return self.fc(self.avgpool(features).flatten(1))

    @torch.jit.export
    def with_soft_mask(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logit and soft mask T(A) in one pass, for training.

        Args:
            x: shape (B, 1, D, H, W).

        Returns:
            Logits (B, num_classes) and T(A) (B, 1, D, H, W).
        """
        features = self.features(x)
        return self.classify(features), self.online_attention(features, self.covid_weight(), list(x.shape[2:]))

    @torch.jit.export
    def explain(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logit and normalised attention A in one pass, for reports.

        Without attention loss this equals Grad-CAM: with global average pooling before a single linear layer,
        Grad-CAM's weights equal those of the layer up to a factor that the normalisation removes.

        Args:
            x: shape (B, 1, D, H, W).

        Returns:
            ``logit`` (B, num_classes) and ``attention`` A in [0, 1], (B, 1, D, H, W).
        """
        features = self.features(x)
        attention = self.online_attention.attention(features, self.covid_weight(), list(x.shape[2:]))
        return {"logit": self.classify(features), "attention": attention}

    def covid_weight(self) -> torch.Tensor:
        """Row of the fully connected layer that gives the logit of COVID-19, w of Eq. (1), shape (1, C)."""
        return self.fc.weight[self.covid_row : self.covid_row + 1]

    def _set_layer4_stride(self, stride: int) -> None:
        """Set the stride of the last stage in the first convolution and the shortcut of its first block."""
        first: Any = self.layer4[0]
        for convolution in (first.conv1, first.downsample[0]):
            convolution.stride = (stride,) * 3


class WithSoftMask(nn.Module):
    """Wrap a classifier for training: one forward returns logit and soft mask, as DDP requires.

    Args:
        network: the classifier; its state dict is saved.
        enabled: whether to compute the soft mask; False for RN34 of Table II.
    """

    def __init__(self, network: AttentionResNet, enabled: bool = True) -> None:
        super().__init__()
        self.network = network
        self.enabled = enabled

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Predict a batch.

        Args:
            x: shape (B, 1, D, H, W).

        Returns:
            ``logit`` (B, num_classes) and, when enabled, ``attention`` T(A) (B, 1, D, H, W).
        """
        if not self.enabled:
            return {"logit": self.network(x)}
        logit, attention = self.network.with_soft_mask(x)
        return {"logit": logit, "attention": attention}


def _check_stages(layers: Sequence[int], block_inplanes: Sequence[int]) -> None:
    if len(layers) != STAGES or len(block_inplanes) != STAGES or min(*layers, *block_inplanes) < 1:
        raise ValueError(
            f"Expected four stages, got layers {list(layers)} and block_inplanes {list(block_inplanes)}. "
            "The paper: layers [3, 4, 6, 3], block_inplanes [64, 128, 256, 512]."
        )


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is {number}. Expected a whole number, 1 or more.")
