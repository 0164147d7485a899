"""Slow, obvious NumPy forms of Eq. (1) to (5) of Ouyang et al. 2020 and of its size-balanced sampling."""

import itertools
import math

import numpy as np


def class_activation(features, weight):
    """Eq. (1) for one scan: features (C, d, h, w), weight (C,)."""
    result = np.zeros(features.shape[1:])
    for z, y, x in np.ndindex(*result.shape):
        result[z, y, x] = max(0.0, sum(weight[c] * features[c, z, y, x] for c in range(len(weight))))
    return result


def upsample(volume, size):
    """Trilinear, voxels as boxes (align_corners=False), edge values beyond the outermost centres."""
    result = np.zeros(size)
    for place in np.ndindex(*size):
        corners = []
        for index, count, wanted in zip(place, volume.shape, size, strict=True):
            position = min(max((index + 0.5) * count / wanted - 0.5, 0.0), count - 1.0)
            low = min(math.floor(position), count - 1)
            high = min(low + 1, count - 1)
            corners.append(((low, 1 - (position - low)), (high, position - low)))
        for (z, wz), (y, wy), (x, wx) in itertools.product(*corners):
            result[place] += wz * wy * wx * volume[z, y, x]
    return result


def min_max(volume):
    low, high = volume.min(), volume.max()
    return np.zeros_like(volume) if high == low else (volume - low) / (high - low)


def soft_mask(attention, alpha=100.0, beta=0.4):
    """Eq. (2)."""
    return np.array([1 / (1 + math.exp(-alpha * (a - beta))) for a in attention.ravel()]).reshape(attention.shape)


def normalized_mse(attention, mask):
    """Eq. (3) for one scan."""
    error = total = 0.0
    for t, m in zip(attention.ravel(), mask.ravel(), strict=True):
        error += (t - m) ** 2
        total += t + m
    return error / total if total else 0.0


def total_loss(logits, labels, attentions, masks, attention_weight=0.5):
    """Eq. (4) for a batch."""
    classification, attention = [], []
    for logit, label, t, m in zip(logits, labels, attentions, masks, strict=True):
        p = 1 / (1 + math.exp(-logit))
        classification.append(-math.log(p if label else 1 - p))
        if label:
            attention.append(normalized_mse(t, m))
    return np.mean(classification) + attention_weight * (np.mean(attention) if attention else 0.0)


def final_probability(p_us, p_ss, ratio):
    """Eq. (5)."""
    w = 0.35 if ratio < 0.001 or ratio > 0.030 else 0.96
    return w * p_us + (1 - w) * p_ss


def group_probabilities(labels, ratios):
    """Sec. III-C, all four groups there."""
    counts = {"covid_small": 0, "covid_large": 0, "cap_small": 0, "cap_large": 0}
    for label, ratio in zip(labels, ratios, strict=True):
        if label == 1:
            counts["covid_small" if ratio < 0.030 else "covid_large"] += 1
        else:
            counts["cap_large" if ratio > 0.001 else "cap_small"] += 1
    weights = {
        "covid_small": counts["covid_large"] / counts["covid_small"],
        "covid_large": 1.0,
        "cap_small": 1.0,
        "cap_large": counts["cap_small"] / counts["cap_large"],
    }
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}
