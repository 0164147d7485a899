import math

import numpy as np
import pandas as pd
import pytest
import torch
from custom_components import LesionScores, ScanAUC
from custom_components.metrics.classification_scores import attention_overlap, classification_scores
from custom_components.metrics.lesion_scores import summarize_lesions
from custom_components.metrics.mask_scores import mask_scores
from custom_components.study.statistics.bootstrap import bootstrap_difference, bootstrap_interval
from custom_components.study.statistics.calibration import brier_score, expected_calibration_error, reliability_curve
from custom_components.study.statistics.case_statistics import CASE_STATISTICS, mean_of
from custom_components.study.statistics.delong import delong_interval, delong_test
from custom_components.study.statistics.ensemble_rule import search_ensemble
from custom_components.study.statistics.mcnemar import mcnemar_test
from custom_components.study.statistics.paired_t_test import t_test_over_folds
from ignite.engine import Engine

NOT_FINITE = [math.nan, math.inf, -math.inf]
LABELS, SCORES = [1, 0, 1, 0], [0.1, 0.2, 0.6, 0.4]


def spoilt(value):
    return [SCORES[0], value, *SCORES[2:]]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(
    "score",
    [
        lambda scores: classification_scores(LABELS, scores),
        lambda scores: mcnemar_test(LABELS, scores, SCORES),
        lambda scores: mcnemar_test(LABELS, SCORES, scores),
        lambda scores: brier_score(LABELS, scores),
        lambda scores: expected_calibration_error(LABELS, scores),
        lambda scores: reliability_curve(LABELS, scores),
        lambda scores: CASE_STATISTICS["auc"](pd.DataFrame({"label": LABELS, "probability": scores})),
        lambda scores: CASE_STATISTICS["macro_f1"](pd.DataFrame({"label": LABELS, "probability": scores})),
        lambda scores: t_test_over_folds(scores, SCORES),
    ],
)
def test_a_score_that_is_no_number_is_refused(score, value):
    with pytest.raises(ValueError, match=r"probability is|missing \(NaN\)|no valid score \(NaN or infinite\)"):
        score(spoilt(value))


def test_delong_refuses_nan_and_ranks_infinity():
    with pytest.raises(ValueError, match=r"1 of 4 scores are missing \(NaN\)"):
        delong_test(LABELS, SCORES, spoilt(math.nan))
    assert delong_interval(LABELS, spoilt(math.inf)) == delong_interval(LABELS, spoilt(99.0))
    assert delong_interval(LABELS, spoilt(-math.inf)) == delong_interval(LABELS, spoilt(-99.0))


def table(dice):
    return pd.DataFrame({"patient_id": list("abcd"), "dice": dice})


@pytest.mark.parametrize("statistic", [mean_of("dice"), lambda frame: frame["dice"].mean()])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_bootstrap_of_an_infinite_score_is_refused_and_one_of_an_unknown_score_leaves_it_out(statistic):
    for value in (math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"The metric over all cases is -?inf. Expected finite values"):
            bootstrap_interval(table(spoilt(value)), statistic, resamples=20)
        with pytest.raises(ValueError, match=r"The metric over all cases is -?inf"):
            bootstrap_difference(table(SCORES), table(spoilt(value)), statistic, resamples=20)
    assert bootstrap_interval(table(spoilt(math.nan)), statistic, resamples=20).value == pytest.approx(1.1 / 3)


def test_no_case_and_one_case_have_no_score_rather_than_a_wrong_one():
    one = classification_scores([1], [0.7])
    assert (one["sensitivity"], one["specificity"], one["auc"], one["macro_f1"]) == (1.0, None, None, None)
    assert math.isnan(t_test_over_folds([], []).p_value)
    assert summarize_lesions(torch.zeros(0, 4, 4, dtype=torch.long), [])["dice"]["mean"] is None


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_the_search_of_the_ensemble_refuses_an_infinite_ratio_and_leaves_an_unknown_one_out(value):
    with pytest.raises(ValueError, match=r"A ratio is infinite. Expected infection volume / lung volume"):
        search_ensemble(LABELS, SCORES, SCORES, [value, 0.1, 0.2, 0.3], weights=[0.5])
    rule = search_ensemble(LABELS, SCORES, SCORES, [math.nan, 0.1, 0.2, 0.3], weights=[0.5])
    assert (rule.n, rule.n_left_out) == (3, 1)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_masks_and_maps_that_hold_no_numbers_are_refused(value):
    mask = torch.zeros(3, 4, 5)
    mask[1, 1:3, 1:3] = 1
    wrong = mask.clone()
    wrong[2, 0] = value
    tolerance_mm = {"lung": 1.0, "infection": 1.0}
    with pytest.raises(ValueError, match="The prediction contains NaN or infinite labels"):
        mask_scores(wrong, mask, (1.0, 1.5, 2.0), tolerance_mm)
    with pytest.raises(ValueError, match="The truth contains NaN or infinite labels"):
        mask_scores(mask, wrong, (1.0, 1.5, 2.0), tolerance_mm)
    for attention, infection in ((wrong, mask), (mask, wrong)):
        with pytest.raises(ValueError, match="Attention or infection contains NaN or infinite values"):
            attention_overlap(attention, infection)
    with pytest.raises(ValueError, match=r"prediction has value -?(nan|inf) at 5 pixels"):
        LesionScores()(wrong[None, None], mask[None, None])
    with pytest.raises(ValueError, match=r"truth has value -?(nan|inf) at 5 pixels"):
        LesionScores()(mask[None, None], wrong[None, None])


def scan(logit, label, **more):
    return {"logit": torch.tensor([logit]), "label": label, **more}


def auc(*batches):
    engine = Engine(lambda _, batch: batch)
    ScanAUC().attach(engine, "auc")
    engine.run(batches)
    return engine.state.metrics["auc"]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_the_auc_of_a_training_refuses_a_logit_that_is_no_number(value):
    """MONAI's AUC ranks NaN above all numbers: 1 here, where one of two pairs is known to be wrong."""
    with pytest.raises(ValueError, match=rf"Case covid_007: 'logit' is {value}. Expected a finite number"):
        auc([scan(0.2, 0), scan(0.1, 1)], [scan(value, 1, case_id="covid_007")])


def test_the_auc_of_an_ensemble_leaves_out_scans_of_unknown_ratio_and_refuses_branches_that_are_no_numbers():
    branches = {"logit_us": torch.zeros(1), "logit_ss": torch.ones(1)}
    unknown = scan(math.nan, 0, **branches)
    known = [scan(0.2, 0, **branches), scan(0.3, 1, **branches)]
    assert auc([unknown, unknown], known, [unknown]) == auc(known) == 1
    assert np.isnan(auc([unknown]))
    with pytest.raises(ValueError, match="'logit_ss' is nan"):
        auc([{**unknown, "logit_ss": torch.tensor([math.nan])}])
