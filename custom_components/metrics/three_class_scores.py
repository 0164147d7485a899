"""AUC, accuracy and confusion matrix of COVID-19, CAP and normal scans; not in the paper, which has two classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from custom_components.infection_size import THREE_CLASSES
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

# Class names in the order of the labels 0, 1, 2.
NAMES = tuple(THREE_CLASSES[label] for label in sorted(THREE_CLASSES))


def most_likely(probabilities: Mapping[str, float | None]) -> str:
    """Name of the class with the highest probability; the first of equal ones in the order of the labels."""
    return max(NAMES, key=lambda name: probabilities[name] or 0.0)


def summarize_three_classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute the scores of a set of cases in the format of ``summary.json``.

    Args:
        rows: for each case ``label`` and ``prediction`` (class names) and ``p_cap``, ``p_covid``, ``p_normal``.

    Returns:
        ``cases``, and by class their number ``n``, the AUC of the class against the rest (one-vs-rest) and the share of
        its cases that are recognised (``sensitivity``); ``macro_auc``, the mean of the three AUC; ``accuracy``; and
        ``confusion_matrix``: number of cases by true class, then by predicted class. None if undefined: an AUC without
        cases of the class or of others, their mean without one of them, a share of no cases.

    Example:
        >>> row = {"label": "cap", "prediction": "normal", "p_cap": 0.3, "p_covid": 0.2, "p_normal": 0.5}
        >>> summary = summarize_three_classes([row, {**row, "label": "normal"}])
        >>> summary["accuracy"], summary["confusion_matrix"]["cap"], summary["auc"]["normal"], summary["macro_auc"]
        (0.5, {'cap': 0, 'covid': 0, 'normal': 1}, 0.5, None)
    """
    truth, called = ([row[key] for row in rows] for key in ("label", "prediction"))
    matrix = confusion_matrix(truth, called, labels=NAMES)
    counts = matrix.sum(axis=1)
    auc = {name: _auc(rows, name) for name in NAMES}
    known = [value for value in auc.values() if value is not None]
    return {
        "cases": len(rows),
        "n": {name: int(count) for name, count in zip(NAMES, counts, strict=True)},
        "macro_auc": float(np.mean(known)) if len(known) == len(NAMES) else None,
        "auc": auc,
        "accuracy": float(accuracy_score(truth, called)),
        "sensitivity": {
            name: float(matrix[place, place] / counts[place]) if counts[place] else None
            for place, name in enumerate(NAMES)
        },
        "confusion_matrix": {
            name: {other: int(value) for other, value in zip(NAMES, row, strict=True)}
            for name, row in zip(NAMES, matrix, strict=True)
        },
    }


def _auc(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    own = [row["label"] == name for row in rows]
    return float(roc_auc_score(own, [row[f"p_{name}"] for row in rows])) if len(set(own)) == 2 else None
