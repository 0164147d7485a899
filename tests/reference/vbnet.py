"""Slow, obvious torch: VB-Net step by step, from the weights by the names of the network's state dict."""

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def vbnet(image: torch.Tensor, weights: Weights, convolutions: tuple[int, ...]) -> torch.Tensor:
    """Logits (1, classes, D, H, W) of a scan (1, channels, D, H, W) that is larger than the network's stride.

    Args:
        image: one scan.
        weights: of the network.
        convolutions: convolutions, or bottlenecks, of each level below the first.
    """
    depth, height, width = image.shape[2:]
    stride = 2 ** len(convolutions)
    x = F.pad(image, [0, -width % stride, 0, -height % stride, 0, -depth % stride])
    skips = [torch.relu(normalised(F.conv3d(x, weights["stem.conv.weight"], padding=1), weights, "stem"))]
    for level, count in enumerate(convolutions):
        name = f"down.{level}"
        x = F.conv3d(skips[-1], weights[f"{name}.down.conv.weight"], stride=2)
        skips.append(residual(torch.relu(normalised(x, weights, f"{name}.down")), weights, f"{name}.block", count))
    x = skips.pop()
    for stage, count in enumerate(reversed(convolutions)):
        name = f"up.{stage}"
        x = F.conv_transpose3d(x, weights[f"{name}.up.conv.weight"], stride=2)
        x = torch.cat([torch.relu(normalised(x, weights, f"{name}.up")), skips.pop()], dim=1)
        x = residual(x, weights, f"{name}.block", count)
    x = F.conv3d(x, weights["head.conv.weight"], weights["head.conv.bias"])
    return x[:, :, :depth, :height, :width]


def residual(x: torch.Tensor, weights: Weights, name: str, count: int) -> torch.Tensor:
    """``ReLU(x + f(x))``, ReLU between the convolutions or bottlenecks of f."""
    y = x
    for number in range(count):
        y = layer(torch.relu(y) if number else y, weights, f"{name}.layers.{2 * number}")
    return torch.relu(x + y)


def layer(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    """3x3x3; or 1x1x1, 3x3x3, 1x1x1 with ReLU between them."""
    if f"{name}.conv.weight" in weights:
        return normalised(F.conv3d(x, weights[f"{name}.conv.weight"], padding=1), weights, name)
    for part, padding in enumerate((0, 1, 0)):
        own = f"{name}.{part}"
        x = F.conv3d(torch.relu(x) if part else x, weights[f"{own}.conv.weight"], padding=padding)
        x = normalised(x, weights, own)
    return x


def normalised(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    """Each channel of the scan by its own mean and variance."""
    mean, variance = x.mean(dim=(2, 3, 4), keepdim=True), x.var(dim=(2, 3, 4), unbiased=False, keepdim=True)
    scale, shift = (weights[f"{name}.adn.N.{kind}"].view(-1, 1, 1, 1) for kind in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift
