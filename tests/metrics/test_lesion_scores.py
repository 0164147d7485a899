import math

import numpy as np
import pytest
import torch
from custom_components.metrics.lesion_scores import LesionScores, accuracy, dice, precision, summarize_lesions
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine

from tests.reference import lesion_scores as reference

SHAPE = (3, 4, 5)
FILE = {"filename_or_obj": "masks/012.png"}


def label_maps(values):
    return hnp.arrays(np.int64, SHAPE, elements=st.sampled_from(values))


CASES = st.lists(st.tuples(label_maps([0, 1, 2, 3]), label_maps([0, 1, 2, 3, 255])), min_size=1, max_size=4)


def counts_of(cases):
    metric = LesionScores()
    for predicted, actual in cases:
        metric([torch.tensor(predicted)[None]], [torch.tensor(actual)[None]])
    return metric.get_buffer()


def same(value, expected):
    value = math.nan if value is None else float(value)
    return (math.isnan(value) and math.isnan(expected)) or math.isclose(value, expected, abs_tol=1e-12)


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_every_score_equals_the_slow_reference(cases):
    counts = counts_of(cases)
    for index, (predicted, actual) in enumerate(cases):
        for value in range(4):
            expected = reference.case_scores(predicted, actual, value)
            got = (dice(counts)[index, value], accuracy(counts)[index, value], precision(counts)[index, value])
            assert all(same(g, e) for g, e in zip(got, expected, strict=True))


@given(CASES)
@settings(max_examples=40, deadline=None)
def test_the_summary_equals_the_slow_reference(cases):
    summary = summarize_lesions(counts_of(cases), [str(index) for index in range(len(cases))])
    for key, column in (("dice", 0), ("accuracy", 1), ("precision", 2)):
        scores = ([reference.case_scores(p, a, value)[column] for p, a in cases] for value in (1, 2, 3))
        means = [reference.class_mean(own) for own in scores]
        names = ("ground_glass", "consolidation", "pleural_effusion", "mean")
        expected = [*means, reference.class_mean(means)]
        assert all(same(summary[key][name], mean) for name, mean in zip(names, expected, strict=True))
    assert same(summary["pooled"]["dice"]["background"], reference.pooled_dice(cases, 0))
    assert same(summary["pooled"]["dice"]["pleural_effusion"], reference.pooled_dice(cases, 3))
    assert same(summary["pooled"]["accuracy"], reference.pooled_accuracy(cases))
    metric = LesionScores()
    metric([torch.tensor(p)[None] for p, _ in cases], [torch.tensor(a)[None] for _, a in cases])
    assert same(metric.aggregate(), reference.mean_lesion_dice(cases))


@given(label_maps([0, 1, 2, 3]), label_maps([0, 1, 2, 3, 255]), label_maps([0, 1, 2, 3]))
@settings(max_examples=20, deadline=None)
def test_ignored_pixels_may_be_predicted_as_anything(predicted, actual, other):
    changed = np.where(actual == 255, other, predicted)
    assert torch.equal(counts_of([(predicted, actual)]), counts_of([(changed, actual)]))


def test_one_slice_computed_by_hand():
    actual = np.array([[0, 1, 1, 2, 255]])
    predicted = np.array([[1, 1, 0, 2, 3]])
    counts = counts_of([(predicted, actual)])
    assert counts.tolist() == [[[0, 1, 1, 4], [1, 2, 2, 4], [1, 1, 1, 4], [0, 0, 0, 4]]]
    assert dice(counts)[0, :3].tolist() == [0, 0.5, 1]
    assert accuracy(counts)[0, :3].tolist() == [0.5, 0.5, 1]
    assert precision(counts)[0, :3].tolist() == [0, 0.5, 1]


def test_a_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean():
    empty, lesion = np.zeros((2, 3), dtype=int), np.ones((2, 3), dtype=int)
    summary = summarize_lesions(counts_of([(empty, empty), (lesion, lesion)]), ["a", "b"])
    assert summary["dice"] == {"ground_glass": 1, "consolidation": None, "pleural_effusion": None, "mean": 1}
    assert summary["cases_with_class"] == {"ground_glass": 1, "consolidation": 0, "pleural_effusion": 0}


@pytest.mark.parametrize(("predicted", "actual"), [(1, 0), (0, 1)])
def test_a_false_or_missed_lesion_scores_zero(predicted, actual):
    counts = counts_of([(np.full((2, 3), predicted), np.full((2, 3), actual))])
    assert dice(counts)[0, 1] == precision(counts)[0, 1] == 0


def test_a_class_mean_weighs_cases_alike_and_pooling_weighs_pixels():
    large, small = np.ones((1, 9), dtype=int), np.array([[1, 0, 0, 0, 0, 0, 0, 0, 0]])
    cases = [(large, large), (np.zeros_like(small), small)]
    summary = summarize_lesions(counts_of(cases), ["large", "small"])
    assert summary["dice"]["ground_glass"] == 0.5
    assert summary["pooled"]["dice"]["ground_glass"] == pytest.approx(18 / 19)
    assert [case["case_id"] for case in summary["worst_cases"]] == ["small", "large"]


def test_the_five_cases_of_lowest_dice_are_named_worst_first():
    truth = np.ones((1, 8), dtype=int)
    cases = [(np.array([[1] * found + [0] * (8 - found)]), truth) for found in (8, 3, 6, 1, 7, 2)]
    summary = summarize_lesions(counts_of(cases), ["eight", "three", "six", "one", "seven", "two"])
    assert [case["case_id"] for case in summary["worst_cases"]] == ["one", "two", "three", "six", "seven"]


def test_one_hot_and_label_maps_count_the_same():
    generator = torch.Generator().manual_seed(0)
    predicted, actual = (torch.randint(0, 4, (2, 1, 5, 6, 7), generator=generator) for _ in range(2))
    one_hot = torch.nn.functional.one_hot(predicted[:, 0], 4).movedim(-1, 1)
    from_maps, from_one_hot = LesionScores(), LesionScores()
    assert torch.equal(from_maps(predicted, actual), from_one_hot(one_hot.float(), actual.float()))


def test_a_batch_and_a_list_of_cases_count_the_same():
    generator = torch.Generator().manual_seed(1)
    predicted, actual = (torch.randint(0, 4, (3, 1, 5, 6), generator=generator) for _ in range(2))
    assert torch.equal(LesionScores()(predicted, actual), LesionScores()(list(predicted), list(actual)))


def test_no_cases_have_no_score():
    assert LesionScores().aggregate().isnan()


def test_reset_forgets_the_cases():
    metric = LesionScores()
    metric(torch.ones(1, 1, 2, 3), torch.zeros(1, 1, 2, 3))
    metric.reset()
    metric(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3))
    assert metric.aggregate() == 1


@pytest.mark.parametrize(
    ("predicted", "actual", "message"),
    [
        (torch.zeros(1, 1, 2, 3), torch.full((1, 1, 2, 3), 7.0), "truth has value 7 at 6 pixels.*255"),
        (torch.full((1, 1, 2, 3), 255), torch.zeros(1, 1, 2, 3), "prediction has value 255 at 6 pixels"),
        (torch.zeros(1, 1, 2, 3), torch.full((1, 1, 2, 3), 0.5), "truth has value 0.5"),
        (torch.full((1, 4, 2, 3), 0.25), torch.zeros(1, 1, 2, 3), "not one-hot.*AsDiscreted"),
        (torch.zeros(1, 2, 2, 3), torch.zeros(1, 1, 2, 3), "2 channels"),
        (torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 3), r"\(2, 4\), truth \(2, 3\)"),
        ([torch.zeros(1, 2, 3)], [MetaTensor(torch.full((1, 2, 3), 7.0), meta=FILE)], "^Case 012: truth has value 7"),
    ],
)
def test_invalid_label_maps_are_rejected(predicted, actual, message):
    with pytest.raises(ValueError, match=message):
        LesionScores()(predicted, actual)


def test_a_summary_needs_a_name_for_each_case():
    with pytest.raises(ValueError, match="each of the 1 scored cases, got 2"):
        summarize_lesions(torch.zeros(1, 4, 4, dtype=torch.long), ["a", "b"])


def test_it_is_the_key_metric_of_a_monai_evaluator():
    truth = torch.tensor([[[0.0, 1, 2, 3]], [[1, 1, 255, 3]]])[:, None]
    batches = [{"image": label[None].clamp(max=3), "label": label[None]} for label in truth]
    metric = IgniteMetricHandler(metric_fn=LesionScores(), output_transform=from_engine(["pred", "label"]))
    evaluator = SupervisedEvaluator(torch.device("cpu"), batches, torch.nn.Identity(), key_val_metric={"dice": metric})
    evaluator.run()
    assert evaluator.state.metrics["dice"] == 1
    assert evaluator.state.metric_details["dice"].shape == (2, 4, 4)
