import math

import numpy as np
import pandas as pd
import pytest
from custom_components.study.results.ensemble_search import nested_ensemble, paper_ensemble
from custom_components.study.statistics.ensemble_rule import EnsembleRule, search_ensemble
from sklearn.metrics import roc_auc_score

FOLDS = 3
US, SS, DS = "Attention RN34 + US", "Attention RN34 + SS", "Attention RN34 + DS"
RULE = ["w_outside", "w_inside", "low", "high", "auc"]


def study(num_tv=60, num_test=25, seed=0):
    """Scans of cross-validation and test set, and both branches' predictions as their runs give them."""
    generator = np.random.default_rng(seed)
    cases = pd.DataFrame(
        {
            "set": ["tv"] * num_tv + ["test"] * num_test,
            "case_id": [f"scan_{number:03d}" for number in range(num_tv + num_test)],
            "label": generator.integers(0, 2, num_tv + num_test),
            "ratio": np.exp(generator.normal(-5, 2, num_tv + num_test)).clip(0, 1),
            "fold": [*(np.arange(num_tv) % FOLDS), *([-1] * num_test)],
        }
    )
    own = cases[cases["set"] == "tv"]
    test = cases[cases["set"] == "test"]
    models = pd.concat([own, *(test.assign(fold=fold) for fold in range(FOLDS))])
    return cases, pd.concat([predicted(models, system, generator) for system in (US, SS)], ignore_index=True)


def predicted(models, system, generator):
    logit = 2 * models["label"] - 1 + 1.5 * generator.normal(size=len(models))
    rows = models[["set", "fold", "case_id"]].assign(system=system, probability=1 / (1 + np.exp(-logit)))
    return rows.sample(frac=1, random_state=1)


def rules(outcome, name):
    return outcome.ensemble[outcome.ensemble["set"] == name].set_index("fold")[RULE]


def joined(cases, predictions, system, name="tv"):
    own = predictions[(predictions["system"] == system) & (predictions["set"] == name)]
    return own.merge(cases.drop(columns="fold"), on=["set", "case_id"])


def pairs(cases, predictions):
    both = joined(cases, predictions, US).merge(joined(cases, predictions, SS), on="case_id", suffixes=("", "_ss"))
    return both[["fold", "label", "probability", "probability_ss", "ratio"]]


def found_on(table, search_thresholds=False):
    """Rule of a table of :func:`pairs`; by default for the thresholds of the paper, which states no search for them."""
    candidates = {} if search_thresholds else {"low_thresholds": [0.001], "high_thresholds": [0.030]}
    return search_ensemble(*(table[name] for name in table.columns[1:]), **candidates)


@pytest.mark.parametrize("search_thresholds", [False, True])
@pytest.mark.parametrize("fold", range(FOLDS))
def test_a_folds_rule_is_searched_on_the_other_folds(fold, search_thresholds):
    cases, predictions = study()
    outcome = nested_ensemble(cases, predictions, US, SS, DS, search_thresholds=search_thresholds)
    expected = found_on(pairs(cases, predictions).query("fold != @fold"), search_thresholds)
    row = outcome.ensemble[(outcome.ensemble["set"] == "tv") & (outcome.ensemble["fold"] == fold)].iloc[0]
    assert EnsembleRule(**row[list(EnsembleRule.__dataclass_fields__)]) == expected
    assert row["n"] == 40


def test_the_papers_protocol_searches_on_the_reported_fold():
    cases, predictions = study()
    outcome = nested_ensemble(cases, predictions, US, SS, DS, protocol="paper")
    everything = pairs(cases, predictions)
    expected = found_on(everything)
    assert len(rules(outcome, "tv")) == FOLDS
    assert (rules(outcome, "tv") == [getattr(expected, name) for name in RULE]).all(axis=None)
    ensemble = joined(cases, outcome.predictions, DS)
    assert expected.auc == pytest.approx(roc_auc_score(ensemble["label"], ensemble["probability"]), abs=1e-12)


@pytest.mark.parametrize("protocol", ["nested", "paper"])
def test_on_the_test_set_each_pair_of_models_has_the_rule_of_all_folds(protocol):
    cases, predictions = study()
    outcome = nested_ensemble(cases, predictions, US, SS, DS, protocol)
    everything = pairs(cases, predictions)
    rule = found_on(everything)
    assert (rules(outcome, "test") == [getattr(rule, name) for name in RULE]).all(axis=None)
    both = joined(cases, predictions, US, "test").merge(
        joined(cases, predictions, SS, "test")[["fold", "case_id", "probability"]],
        on=["fold", "case_id"],
        suffixes=("", "_ss"),
    )
    expected = both.assign(final=rule.apply(both["probability"], both["probability_ss"], both["ratio"]))
    found = joined(cases, outcome.predictions, DS, "test").merge(expected, on=["fold", "case_id"])
    assert len(found) == FOLDS * 25
    assert found["probability_x"].tolist() == found["final"].tolist()


def test_the_search_of_the_thresholds_changes_them_only_if_asked_for():
    cases, predictions = study()
    thresholds = {}
    for asked in (False, True):
        found = nested_ensemble(cases, predictions, US, SS, DS, search_thresholds=asked).ensemble
        thresholds[asked] = set(map(tuple, found[["low", "high"]].to_numpy()))
    assert thresholds[False] == {(0.001, 0.030)}
    assert thresholds[True] - thresholds[False]


def test_the_weights_of_the_paper_give_eq_5():
    cases, predictions = study()
    found = paper_ensemble(cases, predictions, US, SS, DS)
    both = joined(cases, predictions, US).merge(joined(cases, predictions, SS), on="case_id", suffixes=("", "_ss"))
    outside = (both["ratio"] < 0.001) | (both["ratio"] > 0.030)
    weight = np.where(outside, 0.35, 0.96)
    expected = dict(
        zip(both["case_id"], weight * both["probability"] + (1 - weight) * both["probability_ss"], strict=True)
    )
    own = found[found["set"] == "tv"]
    assert 5 < outside.sum() < 55
    assert own["probability"].tolist() == pytest.approx([expected[case] for case in own["case_id"]])
    assert found["system"].unique().tolist() == [DS]
    assert len(found) == 60 + 25 * FOLDS


def test_each_scan_and_model_has_one_prediction():
    cases, predictions = study()
    outcome = nested_ensemble(cases, predictions, US, SS, DS)
    found = outcome.predictions
    assert found.columns.tolist() == ["system", "set", "fold", "case_id", "probability", "attention_dice"]
    keys = ["set", "fold", "case_id"]
    branch = predictions.loc[predictions["system"] == US, keys]
    assert set(map(tuple, found[keys].to_numpy())) == set(map(tuple, branch.to_numpy()))
    assert not found.duplicated(keys).any()
    assert found["system"].unique().tolist() == [DS]
    assert found["attention_dice"].isna().all()
    assert found["set"].tolist() == ["tv"] * 60 + ["test"] * 25 * FOLDS
    assert outcome.ensemble[["set", "fold"]].to_numpy().tolist() == [
        [name, fold] for name in ("tv", "test") for fold in range(FOLDS)
    ]


def test_the_order_of_the_rows_has_no_effect():
    cases, predictions = study()
    shuffled = cases.sample(frac=1, random_state=2), predictions.sample(frac=1, random_state=3)
    first, second = nested_ensemble(cases, predictions, US, SS, DS), nested_ensemble(*shuffled, US, SS, DS)
    pd.testing.assert_frame_equal(first.predictions, second.predictions)
    pd.testing.assert_frame_equal(first.ensemble, second.ensemble)


def test_a_scan_of_unknown_ratio_has_no_probability_and_is_counted():
    cases, predictions = study()
    cases.loc[[0, 3, 7], "ratio"] = math.nan
    outcome = nested_ensemble(cases, predictions, US, SS, DS)
    unknown = outcome.predictions[outcome.predictions["probability"].isna()]
    assert unknown["case_id"].tolist() == ["scan_000", "scan_003", "scan_007"]
    assert outcome.ensemble["n_left_out"].tolist() == [1, 2, 3, 3, 3, 3]


def test_a_failed_model_only_removes_its_fold():
    cases, predictions = study()
    failed = (predictions["system"] == SS) & (predictions["fold"] == 1)
    outcome = nested_ensemble(cases, predictions[~failed], US, SS, DS)
    assert outcome.ensemble["fold"].tolist() == [0, 2, 0, 2]
    assert outcome.ensemble["n"].tolist() == [20, 20, 40, 40]


def test_a_single_fold_has_no_rule():
    cases, predictions = study(num_test=4)
    only = predictions[predictions["fold"] == 0]
    outcome = nested_ensemble(cases, only, US, SS, DS)
    tv = outcome.ensemble[outcome.ensemble["set"] == "tv"].iloc[0]
    assert tv[RULE].isna().all()
    assert tv["n"] == 0
    found = outcome.predictions.groupby("set")["probability"].agg(lambda own: own.isna().mean())
    assert found.to_dict() == {"tv": 1.0, "test": 0.0}


def test_without_predictions_the_tables_are_empty_with_the_same_columns():
    cases, predictions = study()
    full, empty = (nested_ensemble(cases, own, US, SS, DS) for own in (predictions, predictions.iloc[:0]))
    assert len(empty.ensemble) == len(empty.predictions) == 0
    assert empty.ensemble.columns.tolist() == full.ensemble.columns.tolist()
    assert empty.predictions.columns.tolist() == full.predictions.columns.tolist()


def test_a_case_predicted_twice_is_refused():
    cases, predictions = study()
    with pytest.raises(
        ValueError, match=r"Case scan_\d+ has two predictions of Attention RN34 \+ US by the same model"
    ):
        nested_ensemble(cases, pd.concat([predictions, predictions.iloc[:1]]), US, SS, DS)


def test_an_unknown_protocol_is_refused():
    cases, predictions = study(6, 0)
    with pytest.raises(ValueError, match=r"protocol is 'group'. Expected nested or paper"):
        nested_ensemble(cases, predictions, US, SS, DS, protocol="group")
