"""Slow, obvious Python: DeLong's estimates pair by pair, with the kernel of the U-statistic."""

import math


def kernel(covid_score: float, cap_score: float) -> float:
    """1 when the COVID-19 case scores higher, 1/2 for a tie."""
    return 1.0 if covid_score > cap_score else 0.5 if covid_score == cap_score else 0.0


def covariance(first: list[float], second: list[float]) -> float:
    """Sample covariance, with n - 1."""
    mean_a, mean_b = sum(first) / len(first), sum(second) / len(second)
    return sum((a - mean_a) * (b - mean_b) for a, b in zip(first, second, strict=True)) / (len(first) - 1)


def components(labels: list[int], scores: list[float]) -> tuple[list[float], list[float]]:
    """V10 of each COVID-19 case and V01 of each CAP case, DeLong et al. 1988, Sec. 2."""
    covid = [score for label, score in zip(labels, scores, strict=True) if label == 1]
    cap = [score for label, score in zip(labels, scores, strict=True) if label == 0]
    v10 = [sum(kernel(x, y) for y in cap) / len(cap) for x in covid]
    v01 = [sum(kernel(x, y) for x in covid) / len(covid) for y in cap]
    return v10, v01


def auc_and_error(labels: list[int], scores: list[float]) -> tuple[float, float]:
    """AUC and its standard error."""
    v10, v01 = components(labels, scores)
    return sum(v10) / len(v10), math.sqrt(covariance(v10, v10) / len(v10) + covariance(v01, v01) / len(v01))


def difference_and_error(labels: list[int], scores_a: list[float], scores_b: list[float]) -> tuple[float, float]:
    """Difference of two AUCs and its standard error, from the full covariance matrix."""
    (a10, a01), (b10, b01) = components(labels, scores_a), components(labels, scores_b)

    def entry(first: tuple[list[float], list[float]], second: tuple[list[float], list[float]]) -> float:
        return sum(covariance(one, other) / len(one) for one, other in zip(first, second, strict=True))

    variance = entry((a10, a01), (a10, a01)) + entry((b10, b01), (b10, b01)) - 2 * entry((a10, a01), (b10, b01))
    return sum(a10) / len(a10) - sum(b10) / len(b10), math.sqrt(max(variance, 0.0))
