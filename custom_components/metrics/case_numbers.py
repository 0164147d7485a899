"""Checked numbers of one case: probabilities of COVID-19 or of three classes, and infection ratio."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from custom_components.infection_size import THREE_CLASSES, check_ratio

_TOLERANCE = 0.01  # tolerance of a probability: accuracy of logits in half precision


def final_probability(item: Mapping[str, Any], name: str) -> float | None:
    """Compute the final probability of COVID-19 of a case from its ``logit``.

    Args:
        item: the case.
        name: its name, for messages.

    Returns:
        As :func:`covid_probability`; None for a NaN logit with unknown ratio, for which Eq. 5 has no weight.

    Raises:
        ValueError: if there is no such logit.
    """
    logit = item.get("logit")
    no_weight = logit is not None and known_ratio(item, name) is None and bool(torch.as_tensor(logit).isnan().all())
    return None if no_weight else covid_probability(item, "logit", name)


def covid_probability(item: Mapping[str, Any], key: str, name: str) -> float:
    """Compute the probability of COVID-19 of a case from a logit.

    Args:
        item: the case.
        key: key of its logit, one number of any shape.
        name: the case's name, for messages.

    Returns:
        The sigmoid, in float64.

    Raises:
        ValueError: if it is not one finite number.

    Example:
        >>> covid_probability({"logit": torch.zeros(1)}, "logit", "012")
        0.5
    """
    if item.get(key) is None:
        raise ValueError(f"Case {name} has no {key!r}. Expected the network's output: one logit of COVID-19.")
    logit = torch.as_tensor(item[key]).detach().double().cpu()
    if logit.numel() != 1:
        raise ValueError(f"Case {name}: {key!r} has shape {tuple(logit.shape)}. Expected one logit of COVID-19.")
    if not torch.isfinite(logit).item():
        raise ValueError(
            f"Case {name}: {key!r} is {logit.item()}. Expected a finite number: check the loaded weights and "
            "try without mixed precision."
        )
    return torch.sigmoid(logit).item()


def has_three_classes(item: Mapping[str, Any]) -> bool:
    """Whether a case's ``logit`` has a number for each of three classes instead of one of COVID-19."""
    return item.get("logit") is not None and torch.as_tensor(item["logit"]).numel() == len(THREE_CLASSES)


def class_probabilities(item: Mapping[str, Any], name: str) -> dict[str, float]:
    """Probabilities of the classes of a case from its three logits.

    Args:
        item: the case with ``logit``, in the order of the labels: CAP, COVID-19, normal.
        name: its name, for messages.

    Returns:
        The softmax in float64, by class name in the order of the labels.

    Raises:
        ValueError: if a logit is not finite.

    Example:
        >>> class_probabilities({"logit": torch.tensor([0.0, 1000.0, 0.0])}, "012")
        {'cap': 0.0, 'covid': 1.0, 'normal': 0.0}
    """
    logits = torch.as_tensor(item["logit"]).detach().double().cpu().flatten()
    if not torch.isfinite(logits).all():
        raise ValueError(
            f"Case {name}: 'logit' is {logits.tolist()}. Expected finite numbers: check the loaded weights and try "
            "without mixed precision."
        )
    found = torch.softmax(logits, dim=0).tolist()
    return {THREE_CLASSES[label]: found[label] for label in sorted(THREE_CLASSES)}


def check_weighting(name: str, weight_us: float, p_us: float, p_ss: float, p_final: float) -> None:
    """Check a final probability against Eq. 5: P_final = w P_US + (1 - w) P_SS.

    Args:
        name: the case's name, for the message.
        weight_us: w, the weight of the uniform branch.
        p_us: probability of COVID-19 of the uniform branch.
        p_ss: probability of the size-balanced branch.
        p_final: final probability.

    Raises:
        ValueError: if they differ by more than the half-precision tolerance.
    """
    expected = weight_us * p_us + (1 - weight_us) * p_ss
    if abs(expected - p_final) > _TOLERANCE:
        raise ValueError(
            f"Case {name}: P_final is {p_final:.3f}, but Eq. 5 gives {expected:.3f} from the probabilities of the "
            "branches. Use the network's weights, ratio_thresholds and ratio in the report."
        )


def known_ratio(item: Mapping[str, Any], name: str) -> float | None:
    """Infection volume / lung volume of a case.

    Args:
        item: the case with ``ratio``.
        name: the case's name, for messages.

    Returns:
        The ratio, 0 to 1; None if unknown (missing, None or NaN).

    Raises:
        ValueError: when it is not between 0 and 1.
    """
    ratio = math.nan if item.get("ratio") is None else float(item["ratio"])
    if math.isnan(ratio):
        return None
    check_ratio(ratio, name)
    return ratio
