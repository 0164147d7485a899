from dataclasses import replace

import numpy as np
from custom_components.study.tables.ensemble_table import ensemble_table
from custom_components.study.tables.table import DASH


def test_what_was_found_stands_in_the_order_of_sets_and_folds(diagnoses):
    shuffled = replace(diagnoses, ensemble=diagnoses.ensemble.iloc[::-1])
    frame = ensemble_table(shuffled).frame
    assert list(frame.index) == [
        ("TV set", "0"),
        ("TV set", "1"),
        ("TV set", "2"),
        ("Test set", "0"),
        ("Test set", "1"),
        ("Test set", "2"),
    ]
    texts = [str(cell) for cell in frame.loc[("TV set", "1")]]
    assert texts == ["0.35", "0.96", "0.0010", "0.0300", "0.910"]


def test_a_fold_for_which_nothing_was_found_has_dashes(diagnoses):
    ensemble = diagnoses.ensemble.copy()
    ensemble.loc[1, ["w_outside", "w_inside", "low", "high", "auc"]] = np.nan
    frame = ensemble_table(replace(diagnoses, ensemble=ensemble)).frame
    assert {str(cell) for cell in frame.loc[("TV set", "1")]} == {DASH}


def test_without_a_search_there_is_no_row(diagnoses):
    assert ensemble_table(replace(diagnoses, ensemble=diagnoses.ensemble.iloc[:0])).frame.empty
