import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer


class FlipInferer(Inferer):
    """Test-time augmentation: average another inferer's outputs for an image and its mirror images.

    The outputs (logits) are flipped back and averaged. All combinations of the axes are used, so n axes take 2**n times
    as long.

    Args:
        inferer: the inferer to run; its output is one tensor on the image's grid.
        axes: spatial axes to flip; 0 is the first one (left-right in LPS orientation). If empty, only
            the inferer is run.

    Raises:
        ValueError: when an axis is negative or given twice.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> image = torch.rand(1, 1, 4, 5)
        >>> inferer = FlipInferer(SimpleInferer(), axes=[0])
        >>> torch.allclose(inferer(image, lambda x: x * torch.ones(4, 1)), image)  # a network that knows no sides
        True
    """

    def __init__(self, inferer: Inferer, axes: Sequence[int] = ()) -> None:
        if len(set(axes)) != len(axes) or min(axes, default=0) < 0:
            raise ValueError(f"Expected different axes, 0 or more, got {list(axes)}. Correct `flip_axes`.")
        self.inferer = inferer
        self.axes = tuple(axes)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Average the inferer's outputs for a batch (B, C, ...).

        Raises:
            ValueError: when the image does not have an axis.
        """
        if max(self.axes, default=0) >= inputs.ndim - 2:
            raise ValueError(f"Expected axes below {inputs.ndim - 2}, got {list(self.axes)}. Correct `flip_axes`.")
        total = self.inferer(inputs, network, *args, **kwargs)
        axes = [axis + 2 for axis in self.axes]
        combinations = [dims for size in range(1, len(axes) + 1) for dims in itertools.combinations(axes, size)]
        for dims in combinations:
            total = total + self.inferer(inputs.flip(dims), network, *args, **kwargs).flip(dims)
        return total / (1 + len(combinations))
