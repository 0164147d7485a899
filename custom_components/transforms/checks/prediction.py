from collections.abc import Hashable, Mapping
from typing import Any

import torch
from custom_components.images.case_id import case_id
from monai.config import KeysCollection
from monai.transforms import MapTransform


class CheckPredictiond(MapTransform):
    """Check, before postprocessing, that a network's output is finite; the data are not changed.

    The argmax of NaN is the first class: without this check, a diverged network would predict background.

    Args:
        keys: outputs of the network.
        allow_missing_keys: whether an output may be missing.

    Raises:
        ValueError: on call, naming the case, the output and what to do.

    Example:
        >>> CheckPredictiond(keys="pred")({"pred": torch.tensor([0.5, torch.nan]), "case_id": "012"})
        Traceback (most recent call last):
        ...
        ValueError: Case 012: 1 of 2 values of the network's output pred are NaN or infinite. Expected finite numbers: \
check the weights that were loaded, and try --amp False (no mixed precision).
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the outputs of one case, tensors of any shape; returns a shallow copy."""
        item: dict[Any, Any] = dict(data)
        for key in self.key_iterator(item):
            check_finite(item[key], str(item.get("case_id") or case_id(item)), str(key))
        return item


def check_finite(output: Any, case: str, name: str) -> None:
    """Check that a network's output is finite.

    Args:
        output: tensor or array of any shape.
        case: name of the case.
        name: name of the output.

    Raises:
        ValueError: naming the case.
    """
    values = torch.as_tensor(output)
    wrong = values.numel() - int(torch.isfinite(values).sum())
    if wrong:
        raise ValueError(
            f"Case {case}: {wrong:,} of {values.numel():,} values of the network's output {name} are NaN or infinite. "
            "Expected finite numbers: check the weights that were loaded, and try --amp False (no mixed precision)."
        )
