from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn


class ExplainInferer(Inferer):
    """Return a classifier's logits and attention maps in one pass; its ``forward`` returns only the logit.

    For comparison, a second network may be added: the plain classifier without attention loss, whose map is its
    Grad-CAM. Its input is the scan, the first channel.

    Args:
        plain: an ``AttentionResNet``, or None.

    Example:
        >>> from custom_components.networks.attention_resnet import AttentionResNet
        >>> network = AttentionResNet((1, 1, 1, 1), (2, 3, 4, 5)).eval()
        >>> sorted(ExplainInferer(plain=network)(torch.rand(1, 1, 32, 32, 32), network))
        ['attention', 'attention_plain', 'logit', 'logit_plain']
    """

    def __init__(self, plain: nn.Module | None = None) -> None:
        self.plain = plain

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Explain a batch (B, 1 or 2, D, H, W) by an ``AttentionResNet`` or a ``DualSamplingNet``.

        Returns:
            The output of ``network.explain``, with ``logit_plain`` and ``attention_plain`` of the plain network.
        """
        found = dict(network.explain(inputs, *args, **kwargs))
        if self.plain is not None:
            plain = self.plain.eval().explain(inputs[:, :1])  # type: ignore[operator]
            found |= {f"{name}_plain": value for name, value in plain.items()}
        return found
