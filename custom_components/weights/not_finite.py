"""Find tensors with NaN or infinite values."""

from collections.abc import Mapping, Sequence

import torch
from torch.nn.utils import get_total_norm


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with NaN, infinity, or values above 1e19, whose squares overflow in float32.

    Adam stores squares: a gradient of 1e20 is finite, but its square is not, and its weight would never change again.
    If all values are fine, this needs one pass over them and one device synchronisation.

    Args:
        tensors: tensors by name; integer tensors are skipped.

    Returns:
        Names, in the order given.

    Example:
        >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan]), "c": torch.full((3,), 1e20)})
        ['b', 'c']
    """
    floating = {name: _at_least_single(tensor) for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating or _is_finite(get_total_norm(list(floating.values()))):
        return []
    found = [name for name, tensor in floating.items() if not _is_finite(torch.linalg.vector_norm(tensor))]
    return found or list(floating)


def some_names(names: Sequence[str]) -> str:
    """Shorten names for a message: ``3 (first, second, ...)``.

    Example:
        >>> some_names(["stem.weight", "stem.bias", "head.weight"])
        '3 (stem.weight, stem.bias, ...)'
    """
    return f"{len(names)} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"


def _at_least_single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.detach()


def _is_finite(number: torch.Tensor) -> bool:
    return bool(torch.isfinite(number))
