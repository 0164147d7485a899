"""Numbers of one diagnosed case: probabilities of COVID-19 and infection ratio, each checked."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from custom_components.infection_size import check_ratio


def final_probability(item: Mapping[str, Any], name: str) -> float | None:
    """Final probability of COVID-19 of a case, from its ``logit``.

    Args:
        item: the case.
        name: its name, for messages.

    Returns:
        As :func:`covid_probability`; None for the logit NaN of a case of unknown ratio, for which Eq. 5 has no weight.

    Raises:
        ValueError: when there is no such logit.
    """
    logit = item.get("logit")
    no_weight = logit is not None and known_ratio(item, name) is None and bool(torch.as_tensor(logit).isnan().all())
    return None if no_weight else covid_probability(item, "logit", name)


def covid_probability(item: Mapping[str, Any], key: str, name: str) -> float:
    """Probability of COVID-19 of a case, from a logit.

    Args:
        item: the case.
        key: where its logit is, one number of any shape.
        name: the case's name, for messages.

    Returns:
        The sigmoid, in float64.

    Raises:
        ValueError: when there is not one finite number.

    Example:
        >>> covid_probability({"logit": torch.zeros(1)}, "logit", "012")
        0.5
    """
    if item.get(key) is None:
        raise ValueError(f"Case {name} has no {key!r}. Expected the network's output there: one logit, of COVID-19.")
    logit = torch.as_tensor(item[key]).detach().double().cpu()
    if logit.numel() != 1:
        raise ValueError(f"Case {name}: {key!r} has shape {tuple(logit.shape)}. Expected one logit, that of COVID-19.")
    if not torch.isfinite(logit).item():
        raise ValueError(
            f"Case {name}: {key!r} is {logit.item()}. Expected a finite number: check the weights that were loaded, "
            "and try without mixed precision."
        )
    return torch.sigmoid(logit).item()


def known_ratio(item: Mapping[str, Any], name: str) -> float | None:
    """Infection volume / lung volume of a case.

    Args:
        item: the case, ``ratio`` in it.
        name: the case's name, for messages.

    Returns:
        The ratio, 0 to 1; None when it is unknown: not there, None or NaN.

    Raises:
        ValueError: when it is not between 0 and 1.
    """
    ratio = math.nan if item.get("ratio") is None else float(item["ratio"])
    if math.isnan(ratio):
        return None
    check_ratio(ratio, name)
    return ratio
