from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from custom_components.labels import LESION_CLASSES
from custom_components.study.results.study_results import FailedRun, SegmentationResults
from custom_components.study.tables.lesion_scores_by_case import pooled_dice, scores_by_case, unit_note
from custom_components.study.tables.lesion_tables import data_table, lesion_fold_table, lesion_table
from custom_components.study.tables.network_tables import network_comparison_table, network_tables, protocol_table
from custom_components.study.tables.table import DASH

from tests.study.results_by_hand import segmentation_results

RESAMPLES = 40
WITH, WITHOUT = "With augmentation", "No augmentation"
# Dice by network, augmented, protocol: two cases of ground-glass, one of them with consolidation, no effusion.
DICE = {
    ("M", True, "group"): (0.8, 0.4, 0.2),
    ("M", False, "group"): (0.6, 0.4, 0.1),
    ("M", True, "paper"): (1.0, 0.8, 0.5),
    ("M", False, "paper"): (1.0, 0.8, 0.1),
    ("U-Net", True, "group"): (0.5, 0.3, 0.2),
    ("U-Net", False, "group"): (0.0, 0.0, 0.0),
    ("U-Net", True, "paper"): (0.7, 0.5, 0.2),
    ("U-Net", False, "paper"): (0.2, 0.2, 0.2),
}


def by_hand(groups=("p1", "p2")):
    rows = []
    for (network, augmented, protocol), (first, second, consolidation) in DICE.items():
        own = {"network": network, "augmented": augmented, "protocol": protocol}
        scores = {("a", "ground_glass"): first, ("b", "ground_glass"): second, ("b", "consolidation"): consolidation}
        for fold, case_id in enumerate("ab"):
            for lesion in LESION_CLASSES:
                dice = scores.get((case_id, lesion), np.nan)
                pixels = 0 if np.isnan(dice) else 10 if case_id == "a" else 30
                numbers = {"dice": dice, "precision": dice / 2, "accuracy": 1 - (1 - dice) / 10}
                numbers |= dict.fromkeys(("pixels_true", "pixels_pred"), pixels)
                rows.append({**own, "fold": fold, "case_id": case_id, "lesion": lesion, **numbers})
    return SegmentationResults(
        protocols={"group": "By patient.", "paper": "Random slices."},
        cases=pd.DataFrame({"case_id": ["a", "b"], "group": list(groups)}),
        scores=pd.DataFrame(rows),
        networks=("M", "U-Net"),
        overlays={},
    )


def tables_of(results):
    return {table.name: table for table in network_tables(results, RESAMPLES)}


def test_the_mean_is_over_classes_of_the_means_over_cases():
    table = tables_of(by_hand())["table_2_ablation_group"]
    cell = table.frame.loc["M", (WITH, "Dice")]
    assert cell.value == pytest.approx(((0.8 + 0.4) / 2 + 0.2) / 2)
    assert table.frame.loc["M", (WITH, "Precision")].value == pytest.approx(cell.value / 2)
    assert table.frame.loc["M", (WITH, "Accuracy")].value == pytest.approx(1 - (1 - cell.value) / 10)


def test_table_i_has_the_improvement_in_percent_and_a_dash_if_undefined():
    table = tables_of(by_hand())["table_1_comparison_group"]
    assert list(table.frame.index) == ["M", "U-Net", "Improvement (%)"]
    assert table.frame.loc["Improvement (%)", (WITH, "Dice")].value == pytest.approx(100 * (0.4 / 0.3 - 1))
    assert str(table.frame.loc["Improvement (%)", (WITHOUT, "Dice")]) == f"{DASH} (n = 2)"


def test_each_protocol_has_both_tables_with_its_description():
    tables = tables_of(by_hand())
    assert list(tables) == [f"table_{name}_{p}" for p in ("group", "paper") for name in ("1_comparison", "2_ablation")]
    assert "Random slices." in tables["table_2_ablation_paper"].note


def test_the_gain_of_random_slices_is_over_the_same_cases():
    frame = protocol_table(by_hand(), RESAMPLES).frame
    assert list(frame.columns) == ["Dice, group", "Dice, paper", "paper - group"]
    assert frame.loc[("M", "yes"), "paper - group"].value == pytest.approx((0.9 + 0.5) / 2 - (0.6 + 0.2) / 2)


def test_networks_are_compared_with_the_first_and_by_augmentation():
    frame = network_comparison_table(by_hand(), RESAMPLES).frame
    assert [key[1:] for key in frame.index if key[0] == "group"] == [
        ("M, augmented", "M, not augmented"),
        ("M, augmented", "U-Net, augmented"),
        ("M, not augmented", "U-Net, not augmented"),
        ("U-Net, augmented", "U-Net, not augmented"),
    ]
    assert frame.loc[("group", "M, augmented", "U-Net, augmented"), "Dice A - B"].value == pytest.approx(0.4 - 0.3)


def test_an_absent_class_is_excluded_and_counted_as_zero():
    table = lesion_table(by_hand(), "group", RESAMPLES)
    effusion, consolidation = (table.frame.loc[(name, "M", "yes")] for name in ("pleural effusion", "consolidation"))
    assert [str(cell) for cell in effusion] == [*[f"{DASH} (n = 0)"] * 4, "0", "0"]
    assert (consolidation["Dice"].value, consolidation["Cases scored"]) == (0.2, 1)
    assert "(" not in str(consolidation["Dice"]), "one case has no interval"


def test_a_falsely_predicted_class_is_scored_but_not_counted_as_present():
    results = by_hand()
    scores = results.scores.copy()
    where = (scores["case_id"] == "a") & (scores["lesion"] == "pleural_effusion") & (scores["network"] == "M")
    scores.loc[where, ["dice", "precision", "accuracy", "pixels_pred"]] = [0.0, 0.0, 0.9, 7]
    row = lesion_table(replace(results, scores=scores), "group", RESAMPLES).frame.loc[("pleural effusion", "M", "yes")]
    assert (row["Dice"].value, row["Cases scored"], row["Cases with it"]) == (0.0, 1, 0)


def test_large_lesions_dominate_pooled_pixels():
    table = scores_by_case(by_hand(), "M", True, "group")
    assert pooled_dice(table, "ground_glass") == pytest.approx((0.8 * 20 + 0.4 * 60) / 80)
    assert np.isnan(pooled_dice(table, "pleural_effusion"))


def test_folds_are_shown_side_by_side_with_their_mean():
    row = lesion_fold_table(by_hand(), "group").frame.loc[("M", "yes")]
    assert [row["Fold 0"].value, row["Fold 1"].value] == pytest.approx([0.8, 0.3])
    assert (row["Mean ± sd"].value, row["Mean ± sd"].sd) == pytest.approx((0.55, np.std([0.8, 0.3], ddof=1)))


def test_a_failed_fold_is_empty_named_and_marked():
    results = by_hand()
    gone = (results.scores["network"] == "M") & (results.scores["fold"] == 1) & (results.scores["protocol"] == "group")
    results = replace(results, scores=results.scores[~gone], failed=(FailedRun("m/group/fold_1/train", "killed"),))
    folds, means = lesion_fold_table(results, "group"), tables_of(results)["table_2_ablation_group"]
    assert str(folds.frame.loc[("M", "yes"), "Fold 1"]) == ""
    assert "†" in str(means.frame.loc["M", (WITH, "Dice")])
    assert "†" not in str(means.frame.loc["U-Net", (WITH, "Dice")])
    assert "† M, augmented (group): 1 of 2 cases." in means.note
    assert "Failed: m/group/fold_1/train." in means.note


def test_a_network_without_any_score_has_empty_cells():
    results = by_hand()
    results = replace(results, scores=results.scores[results.scores["network"] != "M"])
    table = tables_of(results)["table_1_comparison_group"].frame
    lesions = lesion_table(results, "group", RESAMPLES).frame.loc[("ground-glass", "M", "yes")]
    assert {str(cell) for cell in (*table.loc["M"], *table.loc["Improvement (%)"], *lesions)} == {""}


def test_groups_are_resampled_if_known_otherwise_cases(segmentations, tmp_path):
    assert unit_note(segmentations) == "5 groups (patients or blocks of slices)"
    unknown = segmentation_results(tmp_path / "more", has_groups=False)
    assert unit_note(unknown).startswith("cases because patients are unknown")
    mixed = by_hand(groups=("p1", None))
    assert unit_note(mixed) == "1 groups (patients or blocks of slices) and 1 cases without a group"
    assert scores_by_case(mixed, "M", True, "group")["unit"].tolist() == ["p1", "b"]


def test_intervals_by_group_are_wider_if_cases_of_a_group_agree():
    patients = pd.Series(np.arange(30) // 5)
    cases = pd.DataFrame({"case_id": [f"c{number:02d}" for number in range(30)], "group": "p" + patients.astype(str)})
    scores = cases[["case_id"]].assign(
        network="M", augmented=True, protocol="group", fold=0, lesion="ground_glass", pixels_true=1, pixels_pred=1,
        **dict.fromkeys(("dice", "precision", "accuracy"), 0.2 + 0.1 * patients),
    )  # fmt: skip
    known = SegmentationResults({"group": ""}, cases, scores, ("M",), {})
    alone = replace(known, cases=known.cases.assign(group=""))
    widths = [
        cell.high - cell.low
        for results in (known, alone)
        for cell in [next(iter(network_tables(results, 400))).frame.loc["M", (WITH, "Dice")]]
    ]
    assert widths[0] > 1.5 * widths[1]


def test_the_data_table_counts_cases_groups_and_classes():
    counts = data_table(by_hand()).frame["Number"].to_dict()
    assert counts == {
        **{"Cases": 2, "Groups (patients or blocks of slices)": 2, "Cases without a group": 0, "Cases scored": 2},
        **{"Cases with ground-glass": 2, "Cases with consolidation": 1, "Cases with pleural effusion": 0},
    }


def test_a_case_that_is_scored_twice_or_unknown_is_refused_by_name():
    results = by_hand()
    with pytest.raises(ValueError, match="Case a is scored twice by the same network"):
        tables_of(replace(results, scores=pd.concat([results.scores, results.scores.iloc[[0]]])))
    with pytest.raises(ValueError, match="Case b is scored but in no datalist"):
        tables_of(replace(results, cases=results.cases.iloc[[0]]))
