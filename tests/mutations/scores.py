"""Mistakes in who is in which fold, in scores and in their statistics."""

# ruff: noqa: E501 - a mutation is a line, and is seen as one

from tests.mutations.mutation import mutations_of

FOLDS = mutations_of(
    "datalists/folds.py",
    "datalists/test_folds.py",
    ("a patient in two folds passes", 'len({scan["fold"] for scan in own}) > 1', 'len({scan["fold"] for scan in own}) > 2'),
    ("the smallest patients first", "key=lambda name: -len(own[name])", "key=lambda name: len(own[name])"),
    ("not spread by size group", 'for key in ("group", "label") for scan', 'for key in ("label",) for scan'),
    ("the validation fold trains", "for scan, own in pairs if own != fold", "for scan, own in pairs if own != -1"),
    ("all folds validate", "for scan, own in pairs if own == fold", "for scan, own in pairs if own != -1"),
    ("a fold of one class passes", "if not counts[COVID] or not counts[CAP]:", "if not counts[COVID] and not counts[CAP]:"),
) + mutations_of(
    "datalists/split.py",
    "datalists/test_split.py",
    ("groups are torn apart", "_group_folds(groups, num_folds, seed)\n    else", "_random_folds(len(ordered), num_folds, seed)\n    else"),
    ("random slices by default", 'protocol: Literal["group", "paper"] = "group"', 'protocol: Literal["group", "paper"] = "paper"'),
    ("the border trains", "training = (folds != fold) & ~left_out", "training = folds != fold"),
    ("the validation fold trains", "training = (folds != fold) & ~left_out", "training = ~left_out"),
    ("groups by turns", "fold_of[name] = int(np.argmin(filled))", "fold_of[name] = len(fold_of) % num_folds"),
)  # fmt: skip

METRICS = (
    mutations_of(
        "metrics/lesion_scores.py",
        "metrics/test_lesion_scores.py",
        ("Jaccard for Dice", "return 2 * counts[..., TRUE_POSITIVE] / (counts[..., PREDICTED] + counts[..., ACTUAL])", "return counts[..., TRUE_POSITIVE] / (counts[..., PREDICTED] + counts[..., ACTUAL] - counts[..., TRUE_POSITIVE])"),
        ("background in the headline", "scores[:, 1:].nanmean(dim=0)", "scores.nanmean(dim=0)[[0, 1, 2]]"),
        ("a class that is nowhere scores 0", "scores[:, 1:].nanmean(dim=0)", "scores[:, 1:].nan_to_num().mean(dim=0)"),
        ("recall for precision", "counts[..., PREDICTED].clamp(min=1)", "counts[..., ACTUAL].clamp(min=1)"),
        ("hits count as errors", "- 2 * counts[..., TRUE_POSITIVE]\n", "- counts[..., TRUE_POSITIVE]\n"),
        ("the best cases for the worst", "worst[:_WORST_CASES]", "worst[-_WORST_CASES:]"),
    )
    + mutations_of(
        "metrics/classification_scores.py",
        "metrics/test_classification_scores.py",
        ("sensitivity of CAP", '"sensitivity": right[covid]', '"sensitivity": right[cap]'),
        ("precision for specificity", '"specificity": right[cap]', '"specificity": right[called == CAP]'),
        ("a probability at the threshold is CAP", "(score >= threshold)", "(score > threshold)"),
        ("F1 of COVID-19 alone", 'average="macro"', 'average="binary"'),
        ("AUC of the calls", "roc_auc_score(actual, score)", "roc_auc_score(actual, called)"),
        ("attention at the level is none", "values >= level, inside", "values > level, inside"),
        ("overlap over the attention alone", "(int(attended.sum()) + int(infected.sum()))", "(2 * int(attended.sum()))"),
        ("cases without probability are CAP", "if row.get(predictor) is not None]\n    return [_", "]\n    return [_"),
    )
    + mutations_of(
        "metrics/mask_scores.py",
        "metrics/test_mask_scores.py",
        ("infected lung is no lung", "((labels >= value)[None, None]", "((labels == value)[None, None]"),
        ("spacing in the order z, y, x", '"spacing": list(spacing_mm)', '"spacing": list(spacing_mm)[::-1]'),
        ("volumes exchanged", '(("true", true), ("pred", pred))', '(("true", pred), ("pred", true))'),
        ("mm3 for ml", "math.prod(spacing_mm) / 1000, 6", "math.prod(spacing_mm), 6"),
    )
)  # fmt: skip

STATISTICS = (
    mutations_of(
        "study/statistics/bootstrap.py",
        "study/statistics/test_bootstrap.py",
        ("scans are drawn, not patients", "np.unique(names.astype(str), return_inverse=True)[1]", "np.arange(len(names))"),
        ("systems drawn apart", "[_resampled(frame, statistic, draw) for frame in frames]", "[_resampled(frame, statistic, draw if frame is frames[0] else draw[::-1]) for frame in frames]"),
        ("90 % for 95 %", "tail = (1 - level) / 2", "tail = 1 - level"),
        ("twice the patients", "generator.multinomial(num_groups,", "generator.multinomial(2 * num_groups,"),
        ("difference the other way round", "values[0] - values[1]", "values[1] - values[0]"),
        ("undefined resamples are not counted", "resamples - len(defined)", "0"),
    )
    + mutations_of(
        "study/statistics/delong.py",
        "study/statistics/test_delong.py",
        ("variance with n", "above.var(ddof=1)", "above.var(ddof=0)"),
        ("classes exchanged in the error", "(len(above) * len(below) ** 2)", "(len(below) * len(above) ** 2)"),
        ("90 % for 95 %", "norm.ppf((1 + level) / 2)", "norm.ppf(level)"),
        ("systems taken for independent", "_auc(between), _standard_error(between)", "_auc(between), math.hypot(_standard_error(wins_a), _standard_error(wins_b))"),
        ("a tie is no win", "ranks = rankdata(scores)\n", 'ranks = rankdata(scores, method="min")\n'),
        ("a one-sided p value", "float(2 * norm.sf(abs(z)))", "float(norm.sf(abs(z)))"),
        ("no exact limit", "((1 - level) / 2) ** (1 / pairs)", "((1 - level) / 2) ** (1 / (2 * pairs))"),
    )
    + mutations_of(
        "study/statistics/mcnemar.py",
        "study/statistics/test_mcnemar.py",
        ("never exact", "EXACT_BELOW = 25", "EXACT_BELOW = 0"),
        ("no correction", "correction=True", "correction=False"),
        ("a probability at the threshold is CAP", "(first >= threshold) == covid", "(first > threshold) == covid"),
        ("systems exchanged", "int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())", "int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())"),
    )
    + mutations_of(
        "study/statistics/calibration.py",
        "study/statistics/test_calibration.py",
        ("bins weigh alike", ", weights=curve.counts)", ")"),
    )
    + mutations_of(
        "study/statistics/case_statistics.py",
        "study/statistics/test_case_statistics.py",
        ("a tie is a win", "2 * np.cumsum(negative, axis=1) - negative", "2 * np.cumsum(negative, axis=1)"),
        ("precision for sensitivity", "lambda tp, fn, tn, fp: _ratio(tp, tp + fn)", "lambda tp, fn, tn, fp: _ratio(tp, tp + fp)"),
    )
    + mutations_of(
        "study/statistics/ensemble_rule.py",
        "study/statistics/test_ensemble_rule.py",
        ("branches exchanged", "weight * uniform + (1 - weight) * balanced", "weight * balanced + (1 - weight) * uniform"),
        ("a tie is a win", "outranked = 2 * np.cumsum(counts) - counts", "outranked = 2 * np.cumsum(counts)"),
        ("the rule that is farthest from the paper's", "pair, total = min(won,", "pair, total = max(won,"),
    )
    + mutations_of(
        "study/statistics/paired_t_test.py",
        "study/statistics/test_paired_t_test.py",
        ("systems exchanged", "ttest_rel(first, second)", "ttest_rel(second, first)"),
    )
)  # fmt: skip

SCORES = FOLDS + METRICS + STATISTICS
