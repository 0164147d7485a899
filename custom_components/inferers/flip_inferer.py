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
        """Run the inferer.

        Args:
            inputs: batch, shape (B, C, ...).
            network: maps a batch to logits.
            args: passed to the inferer.
            kwargs: passed to the inferer.

        Returns:
            The averaged output.

        Raises:
            ValueError: when the image does not have an axis.
        """
        if max(self.axes, default=0) >= inputs.ndim - 2:
            raise ValueError(f"Expected axes below {inputs.ndim - 2}, got {list(self.axes)}. Correct `flip_axes`.")
        total = self.inferer(inputs, network, *args, **kwargs)
        combinations = _combinations([axis + 2 for axis in self.axes])
        for dims in combinations:
            total = total + self.inferer(inputs.flip(dims), network, *args, **kwargs).flip(dims)
        return total / (1 + len(combinations))


def _combinations(dims: Sequence[int]) -> list[list[int]]:
    """All non-empty subsets of the axes."""
    chosen = [[dim for place, dim in enumerate(dims) if number >> place & 1] for number in range(2 ** len(dims))]
    return chosen[1:]
