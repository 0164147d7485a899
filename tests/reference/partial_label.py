"""Slow, obvious NumPy: the loss of labels that are sets of classes, pixel by pixel."""

import math

import numpy as np


def partial_label_loss(logits: np.ndarray, sets: np.ndarray, weight: list[float], groups: list[list[int]]) -> float:
    """Marginal cross-entropy plus the mean Dice loss of groups; logits (B, C, N), sets (B, N) as bits."""
    classes = logits.shape[1]
    total = counted = 0.0
    parts = {number: [1.0, 1.0] for number in range(len(groups))}  # twice the overlap, and the two sizes, each plus 1
    for b in range(logits.shape[0]):
        for n in range(logits.shape[2]):
            exps = [math.exp(value) for value in logits[b, :, n]]
            probability = [value / sum(exps) for value in exps]
            possible = [c for c in range(classes) if sets[b, n] >> c & 1]
            if len(possible) < classes:
                smallest = min(weight[c] for c in possible)
                total -= smallest * math.log(sum(probability[c] for c in possible))
                counted += smallest
            for number, group in enumerate(groups):
                inside = all(c in group for c in possible)
                if not inside and any(c in group for c in possible):
                    continue
                score = sum(probability[c] for c in group)
                parts[number][0] += 2 * score * inside
                parts[number][1] += score + inside
    loss = total / counted if counted else 0.0
    return loss + (sum(1 - above / below for above, below in parts.values()) / len(groups) if groups else 0.0)
