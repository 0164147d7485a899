"""Slow, obvious Python: the scores of covid_cap_bundle, case by case and pair by pair."""


def pairwise_auc(labels: list[int], probabilities: list[float]) -> float | None:
    """Share of the (COVID-19, CAP) pairs in which COVID-19 has the higher probability; ties count half."""
    wins, pairs = 0.0, 0
    for covid, p in zip(labels, probabilities, strict=True):
        for cap, q in zip(labels, probabilities, strict=True):
            if covid == 1 and cap == 0:
                pairs += 1
                wins += 1.0 if p > q else 0.5 if p == q else 0.0
    return wins / pairs if pairs else None


def counted_scores(labels: list[int], probabilities: list[float], threshold: float = 0.5) -> dict[str, float | None]:
    """Accuracy, sensitivity, specificity and macro-F1 from the four counts."""
    tp = fp = tn = fn = 0
    for label, p in zip(labels, probabilities, strict=True):
        if label == 1 and p >= threshold:
            tp += 1
        elif label == 1:
            fn += 1
        elif p >= threshold:
            fp += 1
        else:
            tn += 1
    both = tp + fn > 0 and tn + fp > 0
    return {
        "accuracy": (tp + tn) / len(labels) if labels else None,
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "macro_f1": (2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2 if both else None,
    }


def voxelwise_dice(attention: list[float], mask: list[int], level: float) -> float:
    """Dice of two lists of voxels."""
    both = sum(a >= level and m != 0 for a, m in zip(attention, mask, strict=True))
    return 2 * both / (sum(a >= level for a in attention) + sum(m != 0 for m in mask))
