import numpy as np
import pytest
import torch
from custom_components.metrics.three_class_scores import NAMES, most_likely, summarize_three_classes
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.metrics import Accuracy, ConfusionMatrix
from monai.metrics import compute_roc_auc


def rows_of(seed, labels):
    shares = np.random.default_rng(seed).dirichlet((1, 1, 1), size=len(labels))
    rows = [{f"p_{name}": float(value) for name, value in zip(NAMES, own, strict=True)} for own in shares]
    called = [most_likely({name: row[f"p_{name}"] for name in NAMES}) for row in rows]
    known = zip(rows, labels, called, strict=True)
    return [{**row, "label": NAMES[label], "prediction": one} for row, label, one in known], torch.tensor(shares)


@given(st.integers(0, 1000), st.lists(st.integers(0, 2), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_the_scores_are_those_of_ignite_and_monai(seed, more):
    labels = [0, 1, 2, *more]
    rows, shares = rows_of(seed, labels)
    matrix, accuracy = ConfusionMatrix(num_classes=3), Accuracy()
    for metric in (matrix, accuracy):
        metric.update((shares, torch.tensor(labels)))
    summary = summarize_three_classes(rows)
    assert [list(own.values()) for own in summary["confusion_matrix"].values()] == matrix.compute().tolist()
    assert summary["accuracy"] == pytest.approx(accuracy.compute())
    one_hot = torch.nn.functional.one_hot(torch.tensor(labels), 3)
    assert summary["macro_auc"] == pytest.approx(compute_roc_auc(shares, one_hot, average="macro"))
    assert list(summary["auc"].values()) == pytest.approx(compute_roc_auc(shares, one_hot, average="none"))
    right = [sum(row["prediction"] == name == row["label"] for row in rows) / summary["n"][name] for name in NAMES]
    assert list(summary["sensitivity"].values()) == pytest.approx(right)


def test_what_a_class_without_cases_leaves_undefined_is_none():
    summary = summarize_three_classes(rows_of(0, [0, 0, 1])[0])
    assert (summary["auc"]["normal"], summary["macro_auc"], summary["sensitivity"]["normal"]) == (None, None, None)
    assert summary["n"] == {"cap": 2, "covid": 1, "normal": 0}
