from dataclasses import replace

import pandas as pd
import pytest
from custom_components.study.results.panel_choice import choose_panels
from custom_components.study.results.study_results import TEST, TV, ClassificationResults

US, DS = "RN34 + US", "Attention RN34 + DS"
SCANS = [
    ("large_sure", 1, 0.2, 0.99),
    ("large_unsure", 1, 0.2, 0.51),
    ("small", 1, 0.001, 0.6),
    ("medium", 1, 0.02, 0.7),
    ("missed_little", 1, 0.02, 0.4),
    ("missed_much", 1, 0.02, 0.1),
    ("cap_right", 0, 0.02, 0.2),
    ("cap_wrong", 0, 0.02, 0.95),
]


def results_of(rows, test=(), systems=None, folds=(0,), rules=None) -> ClassificationResults:
    """Results of scans (case id, label, ratio, probability); ``systems`` has the change of the probabilities.

    The test set has one model per fold; that of fold k adds k to the probability, wrapped at 1.
    """
    changes = {DS: lambda name, probability: probability} if systems is None else systems
    parts = [(TV, rows, [number * len(folds) // len(rows) for number in range(len(rows))]), (TEST, test, None)]
    cases, predictions = [], []
    for name, own, of_scan in parts:
        for number, (case_id, label, ratio, probability) in enumerate(own):
            fold = -1 if of_scan is None else folds[of_scan[number]]
            head = {"set": name, "case_id": case_id}
            cases.append({**head, "patient_id": case_id, "label": label, "ratio": ratio, "fold": fold})
            for system, change in changes.items():
                for model in folds if of_scan is None else [fold]:
                    found = change(case_id, probability)
                    found = found if of_scan is not None or model == folds[0] else 1 - found
                    predictions.append({**head, "system": system, "fold": model, "probability": found})
    rule = {"w_outside": 0.25, "w_inside": 0.75, "low": 0.002, "high": 0.04, "auc": 0.9}
    known = [(name, fold) for name in (TV, TEST) for fold in folds] if rules is None else rules
    ensemble = pd.DataFrame([{"set": name, "fold": fold, **rule} for name, fold in known])
    predicted = pd.DataFrame(predictions).assign(attention_dice=0.0)
    return ClassificationResults({"nested": "words"}, pd.DataFrame(cases), predicted, tuple(changes), ensemble, ())


def shown(results, count, name=TV, system=DS):
    panels = [panel for panel in choose_panels(results, count) if panel.set == name]
    kinds = ([p.case_id for p in panels if system in p.right], [p.case_id for p in panels if system in p.wrong])
    return kinds[0] + kinds[1]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (6, ["small", "medium", "large_sure", "missed_much", "missed_little", "cap_wrong"]),
        (3, ["small", "medium", "missed_much"]),
        (8, ["small", "medium", "large_sure", "large_unsure", "missed_much", "missed_little", "cap_wrong"]),
        (1, ["small"]),
        (0, []),
    ],
)
def test_correct_scans_go_from_small_to_large_and_failures_from_worst(count, expected):
    assert shown(results_of(SCANS), count) == expected


def test_without_failures_more_correct_scans_are_shown():
    right = [row for row in SCANS if row[0] in ("small", "medium", "large_sure", "large_unsure")]
    assert len(choose_panels(results_of(right), 4)) == 4


def test_a_scan_without_probability_is_not_shown():
    assert shown(results_of([("a", 1, 0.2, float("nan")), ("b", 1, 0.2, 0.9)]), 4) == ["b"]


def test_each_system_has_its_own_scans_and_a_scan_of_two_systems_is_one_panel():
    turned = {US: lambda name, p: 1 - p if name in ("small", "missed_much") else p, DS: lambda name, p: p}
    panels = {panel.case_id: panel for panel in choose_panels(results_of(SCANS, systems=turned), 2)}
    kinds = {name: (panel.right, panel.wrong) for name, panel in panels.items()}
    assert kinds == {"missed_much": ((US,), (DS,)), "small": ((DS,), ()), "missed_little": ((), (US,))}
    same = choose_panels(results_of(SCANS, systems=dict.fromkeys((US, DS), turned[DS])), 2)
    assert [(panel.case_id, panel.right, panel.wrong) for panel in same] == [
        ("small", (US, DS), ()), ("missed_much", (), (US, DS))
    ]  # fmt: skip


def test_the_test_set_has_its_own_scans_by_the_models_of_the_first_fold_with_a_rule():
    renamed = [(f"t_{name}", *more) for name, *more in SCANS]
    results = results_of(SCANS, renamed, folds=(0, 1))
    assert shown(results, 3, TEST) == ["t_small", "t_medium", "t_missed_much"]
    assert {panel.fold for panel in choose_panels(results, 3) if panel.set == TEST} == {0}
    later = results_of(SCANS, renamed, folds=(0, 1), rules=[(TV, 0), (TV, 1), (TEST, 1)])
    assert shown(later, 2, TEST) == ["t_missed_much", "t_large_sure"]  # the model of fold 1 says the opposite
    assert {panel.fold for panel in choose_panels(later, 2) if panel.set == TEST} == {1}


def test_scans_of_a_fold_without_a_rule_are_not_chosen():
    results = results_of(SCANS, folds=(0, 1), rules=[(TV, 1)])
    assert {panel.fold for panel in choose_panels(results, 8)} == {1}
    assert "small" not in shown(results, 8)


def test_a_variant_is_no_system_of_its_own():
    results = results_of(SCANS, systems={US: lambda name, p: 1 - p, DS: lambda name, p: p})
    hidden = replace(results, variants=(US,))
    assert {system for panel in choose_panels(hidden, 6) for system in panel.right + panel.wrong} == {DS}
