"""The paper's own tables: accuracy and F1 follow from its counts, sensitivity and specificity.

X. Ouyang et al., IEEE Transactions on Medical Imaging 39 (2020), Tables I to III. A scan of the TV set is called by one
model. A scan of the test set is called by five, and the printed means are the shares of all their calls.
"""

import numpy as np
import pytest
from custom_components.metrics.classification_scores import classification_scores

SYSTEMS = ("RN34 + US", "Attention RN34 + US", "Attention RN34 + SS", "Attention RN34 + DS")

# Set and ratio: scans with COVID-19 and CAP (Tables I and III), then of each system in the order above the printed
# sensitivity, specificity, accuracy and F1 (Tables II and III).
TABLES = {
    ("TV", "all"): (1094, 1092, [(0.931, 0.959, 0.945, 0.945), (0.941, 0.953, 0.947, 0.947),
                                 (0.953, 0.948, 0.951, 0.951), (0.954, 0.954, 0.954, 0.954)]),
    ("test", "all"): (2295, 501, [(0.856, 0.870, 0.859, 0.798), (0.872, 0.907, 0.879, 0.825),
                                  (0.868, 0.876, 0.869, 0.811), (0.869, 0.901, 0.875, 0.820)]),
    ("TV", "< 0.005"): (151, 838, [(0.675, 0.976, 0.930, 0.853), (0.722, 0.970, 0.932, 0.863),
                                   (0.815, 0.961, 0.938, 0.882), (0.795, 0.968, 0.941, 0.885)]),
    ("TV", "0.005 - 0.030"): (318, 183, [(0.925, 0.940, 0.930, 0.926), (0.937, 0.918, 0.930, 0.925),
                                         (0.953, 0.923, 0.942, 0.938), (0.953, 0.923, 0.942, 0.938)]),
    ("TV", "> 0.030"): (625, 71, [(0.995, 0.803, 0.976, 0.928), (0.997, 0.845, 0.981, 0.946),
                                  (0.987, 0.859, 0.974, 0.929), (0.994, 0.873, 0.981, 0.947)]),
    ("test", "< 0.005"): (363, 436, [(0.514, 0.889, 0.719, 0.698), (0.534, 0.933, 0.752, 0.732),
                                     (0.569, 0.896, 0.747, 0.732), (0.549, 0.926, 0.755, 0.737)]),
    ("test", "0.005 - 0.030"): (718, 41, [(0.851, 0.810, 0.848, 0.643), (0.875, 0.785, 0.871, 0.662),
                                          (0.862, 0.785, 0.858, 0.648), (0.863, 0.790, 0.859, 0.649)]),
    ("test", "> 0.030"): (1214, 24, [(0.962, 0.617, 0.955, 0.663), (0.972, 0.642, 0.965, 0.702),
                                     (0.960, 0.667, 0.955, 0.671), (0.968, 0.650, 0.962, 0.692)]),
}  # fmt: skip

CALLS = {"TV": 1, "test": 5}

ROWS = [
    pytest.param(CALLS[name] * covid, CALLS[name] * cap, *printed, id=f"{name} {ratio} {system}")
    for (name, ratio), (covid, cap, rows) in TABLES.items()
    for system, printed in zip(SYSTEMS, rows, strict=True)
]


def called(covid, cap, sensitivity, specificity):
    """Labels and calls with these shares right, to the nearest call."""
    right_covid, right_cap = round(sensitivity * covid), round(specificity * cap)
    labels = np.repeat([1, 0], [covid, cap])
    return labels, np.repeat([0.9, 0.1, 0.1, 0.9], [right_covid, covid - right_covid, right_cap, cap - right_cap])


@pytest.mark.parametrize(("covid", "cap", "sensitivity", "specificity", "accuracy", "macro_f1"), ROWS)
def test_accuracy_and_macro_f1_are_as_printed(covid, cap, sensitivity, specificity, accuracy, macro_f1):
    scores = classification_scores(*called(covid, cap, sensitivity, specificity))
    assert scores["accuracy"] == pytest.approx(accuracy, abs=0.003)
    assert scores["macro_f1"] == pytest.approx(macro_f1, abs=0.003)


def test_there_are_32_rows_and_the_groups_of_ratio_add_up():
    assert len(ROWS) == 32
    for name in ("TV", "test"):
        bands = [own[:2] for key, own in TABLES.items() if key[0] == name and key[1] != "all"]
        assert tuple(map(sum, zip(*bands, strict=True))) == TABLES[name, "all"][:2]


def test_binary_f1_differs_from_the_printed_f1():
    """The test tells macro-F1 from binary F1: on the test set they are 0.1 apart."""
    covid, cap, rows = TABLES["test", "all"]
    for sensitivity, specificity, _, printed in rows:
        true_positive, false_positive = sensitivity * covid, (1 - specificity) * cap
        binary = 2 * true_positive / (true_positive + false_positive + covid)
        assert abs(binary - printed) > 0.09
