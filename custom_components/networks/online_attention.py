"""Online attention: the class activation map as a trainable output of the classifier.

    features f (B, C, d, h, w), FC weight row w (1, C)
      -> A = ReLU(conv_1x1x1(f, w))            Eq. (1)   (B, 1, d, h, w)
      -> trilinear to the input's size, min-max to [0, 1] per scan   (B, 1, D, H, W)
      -> T(A) = 1 / (1 + exp(-alpha (A - beta)))   Eq. (2)

X. Ouyang et al., Dual-Sampling Attention Network for Diagnosis of COVID-19 From Community Acquired Pneumonia, IEEE
Transactions on Medical Imaging 39 (2020), Sec. III-B.
"""

import torch
import torch.nn.functional as F
from torch import nn

# Trilinear interpolation of a constant map in float32 has a relative rounding error of about 1e-7.
LEAST_CONTRAST = 1e-5
# The gradient is 1 / extent; the square of gradient times soft mask slope must fit into float32.
LEAST_EXTENT = 1e-15


def class_activation(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Class activation map A = ReLU(conv(f, w)), Eq. (1).

    The weight is detached: the attention loss trains the features, and only the classification loss trains the
    classifier's weight. Computed at least in float32, even under autocast.

    Args:
        features: f, shape (B, C, d, h, w).
        weight: w, the row of the fully connected layer, shape (1, C).

    Returns:
        A, not negative, shape (B, 1, d, h, w).

    Example:
        >>> class_activation(torch.ones(1, 2, 1, 1, 2), torch.tensor([[3.0, -1.0]])).flatten().tolist()
        [2.0, 2.0]
    """
    kernel = weight.detach().view(1, -1, 1, 1, 1)
    if features.dtype != torch.float64:  # product and sum stay in float32 under autocast, unlike a convolution
        features, kernel = features.float(), kernel.float()
    return torch.relu((features * kernel).sum(dim=1, keepdim=True))


def min_max_normalize(
    activation: torch.Tensor, least_contrast: float = LEAST_CONTRAST, least_extent: float = LEAST_EXTENT
) -> torch.Tensor:
    """Scale each scan's map to [0, 1]; a constant map becomes 0.

    A map that is constant up to rounding (a constant map after upsampling) also becomes 0, as does a map with such a
    small extent that its gradient (1 / extent) would overflow.

    Args:
        activation: shape (B, 1, D, H, W).
        least_contrast: extent / maximum up to which a map counts as constant.
        least_extent: extent up to which a map counts as constant.

    Returns:
        Same shape.

    Example:
        >>> min_max_normalize(torch.tensor([2.0, 3.0, 4.0]).view(1, 1, 1, 1, 3)).flatten().tolist()
        [0.0, 0.5, 1.0]
        >>> min_max_normalize(torch.zeros(1, 1, 1, 1, 2)).flatten().tolist()
        [0.0, 0.0]
    """
    low, high = activation.amin(dim=(1, 2, 3, 4), keepdim=True), activation.amax(dim=(1, 2, 3, 4), keepdim=True)
    extent = high - low
    shows = (extent > least_contrast * torch.maximum(high.abs(), low.abs())) & (extent > least_extent)
    normalized = (activation - low) / torch.where(shows, extent, torch.ones_like(extent))
    return torch.where(shows, normalized, torch.zeros_like(normalized))


def soft_mask(attention: torch.Tensor, alpha: float = 100.0, beta: float = 0.4) -> torch.Tensor:
    """Soft mask T(A), Eq. (2).

    Args:
        attention: A in [0, 1], any shape.
        alpha: steepness.
        beta: the attention at which T(A) is 1/2.

    Returns:
        T(A) in (0, 1), same shape.

    Example:
        >>> soft_mask(torch.tensor([0.0, 0.4, 1.0])).round(decimals=3).tolist()
        [0.0, 0.5, 1.0]
    """
    return torch.sigmoid(alpha * (attention - beta))


class OnlineAttention(nn.Module):
    """Attention map of a classifier from its last features and its weights; has no parameters.

    Args:
        alpha: steepness of the soft mask, Sec. III-B: 100.
        beta: threshold of the soft mask, Sec. III-B: 0.4.

    Raises:
        ValueError: if alpha is not positive or beta is not in [0, 1].
    """

    def __init__(self, alpha: float = 100.0, beta: float = 0.4) -> None:
        super().__init__()
        if not alpha > 0 or not 0 <= beta <= 1:
            raise ValueError(f"Expected alpha > 0 and beta in [0, 1], got {alpha} and {beta}. The paper: 100 and 0.4.")
        self.alpha = float(alpha)
        self.beta = float(beta)

    def forward(self, features: torch.Tensor, weight: torch.Tensor, size: list[int] | None = None) -> torch.Tensor:
        """Soft mask T(A) of a batch.

        Args:
            features: shape (B, C, d, h, w).
            weight: classifier's weight row, shape (1, C).
            size: input size (D, H, W); None keeps the feature size.

        Returns:
            T(A), shape (B, 1, D, H, W).
        """
        return soft_mask(self.attention(features, weight, size), self.alpha, self.beta)

    @torch.jit.export
    def attention(self, features: torch.Tensor, weight: torch.Tensor, size: list[int] | None = None) -> torch.Tensor:
        """Normalised map A before the soft mask, for heat maps.

        Args:
            features: shape (B, C, d, h, w).
            weight: classifier's weight row, shape (1, C).
            size: input size (D, H, W); None keeps the feature size.

        Returns:
            A in [0, 1], shape (B, 1, D, H, W).
        """
        activation = class_activation(features, weight)
        if size is not None:  # by size because 138 voxels are not a multiple of 16
            activation = F.interpolate(activation, size=size, mode="trilinear", align_corners=False)
        return min_max_normalize(activation)
