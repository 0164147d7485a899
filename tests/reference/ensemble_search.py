"""Slow, obvious Python: every rule of Eq. 5, one after the other."""

from tests.reference.classification_scores import pairwise_auc


def ensemble_probability(p_us: float, p_ss: float, ratio: float, rule: tuple[float, float, float, float]) -> float:
    """Eq. 5 with w outside and inside the thresholds, both of which are inside."""
    w_outside, w_inside, low, high = rule
    w = w_outside if ratio < low or ratio > high else w_inside
    return w * p_us + (1 - w) * p_ss


def auc_of_each_rule(
    cases: list[tuple[int, float, float, float]], weights: list[float], lows: list[float], highs: list[float]
) -> dict[tuple[float, float, float, float], float | None]:
    """AUC of all cases (label, p_us, p_ss, ratio) by rule (w outside, w inside, low, high)."""
    rules = [(w, v, low, high) for w in weights for v in weights for low in lows for high in highs if low <= high]
    return {
        rule: pairwise_auc([case[0] for case in cases], [ensemble_probability(*case[1:], rule) for case in cases])
        for rule in rules
    }
