"""Marginal cross-entropy, pixel by pixel."""

import math

import numpy as np


def partial_label_loss(logits: np.ndarray, sets: np.ndarray, weight=None) -> float:
    """Weighted mean over the pixels of -log sum of p_c over their possible classes.

    logits (B, C, H, W); sets (B, 1, H, W), bit c for class c. Pixels that may be of any class are not counted.
    """
    batch, classes, height, width = logits.shape
    weight = [1.0] * classes if weight is None else weight
    total = counted = 0.0
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                possible = [c for c in range(classes) if int(sets[b, 0, y, x]) >> c & 1]
                if len(possible) == classes:
                    continue
                exponentials = [math.exp(value) for value in logits[b, :, y, x]]
                probability = sum(exponentials[c] for c in possible) / sum(exponentials)
                least = min(weight[c] for c in possible)
                total -= least * math.log(probability)
                counted += least
    return total / counted if counted else 0.0
