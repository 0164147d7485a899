"""Slow, obvious NumPy: the scores of covid_seg_bundle, pixel by pixel and case by case."""

import math

import numpy as np

IGNORE = 255


def case_scores(predicted: np.ndarray, actual: np.ndarray, value: int) -> tuple[float, float, float]:
    """Dice, accuracy and precision of one class in one case."""
    right = wrong = missed = neither = 0
    for p, a in zip(predicted.ravel().tolist(), actual.ravel().tolist(), strict=True):
        if a == IGNORE:
            continue
        if p == value and a == value:
            right += 1
        elif p == value:
            wrong += 1
        elif a == value:
            missed += 1
        else:
            neither += 1
    if right + wrong + missed == 0:
        return math.nan, math.nan, math.nan
    precision = right / (right + wrong) if right + wrong else 0.0
    accuracy = (right + neither) / (right + wrong + missed + neither)
    return 2 * right / (2 * right + wrong + missed), accuracy, precision


def class_mean(values: list[float]) -> float:
    """Mean of those that are numbers."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def mean_lesion_dice(cases: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over the three lesion classes of the mean over cases."""
    return class_mean([class_mean([case_scores(p, a, value)[0] for p, a in cases]) for value in (1, 2, 3)])


def pooled_dice(cases: list[tuple[np.ndarray, np.ndarray]], value: int) -> float:
    """Dice of one class over the pixels of all cases."""
    predicted = np.concatenate([p.ravel() for p, _ in cases])
    actual = np.concatenate([a.ravel() for _, a in cases])
    return case_scores(predicted, actual, value)[0]


def pooled_accuracy(cases: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Share of all pixels that have the right label."""
    pairs = [
        (p, a)
        for predicted, actual in cases
        for p, a in zip(predicted.ravel().tolist(), actual.ravel().tolist(), strict=True)
        if a != IGNORE
    ]
    return sum(p == a for p, a in pairs) / len(pairs) if pairs else math.nan


def cross_entropy(logits: np.ndarray, labels: np.ndarray, sigmoid: bool = False) -> float:
    """Mean cross-entropy of logits (B, C, H, W) and labels (B, 1, H, W) over the pixels that count."""
    losses = []
    for b, h, w in np.ndindex(logits.shape[0], *logits.shape[2:]):
        true = int(labels[b, 0, h, w])
        if true == IGNORE:
            continue
        z = logits[b, :, h, w].astype(np.float64).tolist()
        if sigmoid:
            p = [1 / (1 + math.exp(-value)) for value in z]
            losses.append(-math.log(p[true]) - sum(math.log(1 - p[c]) for c in range(len(z)) if c != true))
        else:
            p = [math.exp(value) / sum(map(math.exp, z)) for value in z]
            losses.append(-math.log(p[true]))
    return sum(losses) / len(losses) if losses else 0.0


def soft_dice_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """1 - Dice of probabilities and truth, one pixel more above and below, mean over the lesion classes of a batch."""
    terms = []
    for value in range(1, logits.shape[1]):
        both = predicted = actual = 0.0
        for place in np.ndindex(labels[:, 0].shape):
            label, pixel = labels[:, 0][place], np.moveaxis(logits, 1, -1)[place]
            if label == IGNORE:
                continue
            exponents = [math.exp(x - max(pixel)) for x in pixel]
            p = exponents[value] / sum(exponents)
            both += p * (label == value)
            predicted += p
            actual += label == value
        terms.append(1 - (2 * both + 1) / (predicted + actual + 1))
    return sum(terms) / len(terms)
