"""Pairwise comparison of the systems of a study."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from custom_components.infection_size import RATIO_BANDS
from custom_components.study.results.study_results import TV, ClassificationResults
from custom_components.study.statistics.bootstrap import bootstrap_difference
from custom_components.study.statistics.case_statistics import CASE_STATISTICS
from custom_components.study.statistics.delong import delong_test
from custom_components.study.statistics.mcnemar import mcnemar_test
from custom_components.study.statistics.paired_t_test import T_TEST_NOTE, t_test_over_folds
from custom_components.study.tables.model_scores import (
    METRICS,
    SET_TITLES,
    by_model,
    fold_scores,
    mean_over_models,
    missing_note,
)
from custom_components.study.tables.table import (
    Cell,
    Table,
    interval_of,
    joined_notes,
    p_value,
    table_frame,
    undefined_note,
)
from statsmodels.stats.multitest import multipletests

_JOINED, _MEAN = "joined", "mean"

_DELONG, _BY_PATIENT = "AUC A - B", "AUC A - B, by patient"
_TESTS = ("p (DeLong)", "p (Holm)", "only A right", "only B right", "p (McNemar)", "Scans")
_SAME = "Dash: the difference is equal in all folds, or fewer than two folds have scores."


def comparison_table(results: ClassificationResults, resamples: int) -> Table:
    """Compare each pair of systems: AUC by DeLong's paired test, classifications at 0.5 by McNemar's test.

    One row per set, model (folds pooled, each fold model, mean over fold models) and pair.
    """
    rows: dict[tuple[str, str, str], dict[str, object]] = {}
    for name in results.sets:
        rows |= _set_rows(name, results.scans[results.scans["set"] == name], results.pairs, resamples)
    frame = _with_holm(rows)
    note = joined_notes(
        "Scans for which both systems have a probability, classified at 0.5. 95 % interval of the AUC difference: "
        f"DeLong's, and {resamples} bootstrap resamples of patients, also valid with several scans per patient. The "
        "tests of DeLong and McNemar assume independent scans. Holm: p of DeLong corrected for the pairs of the same "
        "models. Test set: row 'mean' is the mean over the fold models.",
        undefined_note(frame),
        missing_note(results),
    )
    return Table("comparisons", "Systems compared pairwise", note, frame)


def t_test_table(results: ClassificationResults) -> Table:
    """P of the paper's paired t-test over folds: one row per set, ratio band and pair, one column per score.

    The bands are those of Sec. IV-E, small and large infections, after all scans.
    """
    rows = {
        (SET_TITLES[name], band or "all", f"{pair[0]} (A), {pair[1]} (B)"): {
            title: _t_test(*(fold_scores(results, name, system, metric, band) for system in pair))
            for metric, title in METRICS.items()
        }
        for name in results.sets
        for band in ("", RATIO_BANDS[0], RATIO_BANDS[2])
        for pair in results.pairs
    }
    note = joined_notes(T_TEST_NOTE, _SAME, missing_note(results))
    return Table("paired_t_test", "Paired t-test over the folds (p)", note, table_frame(rows, ["set", "ratio", "pair"]))


def _set_rows(
    name: str, scans: pd.DataFrame, compared: Sequence[tuple[str, str]], resamples: int
) -> dict[tuple[str, str, str], dict[str, object]]:
    """A block of rows per model, and one for their mean, with only the difference by patient."""
    tables = {system: by_model(scans[scans["system"] == system]) for pair in compared for system in pair}
    pairs = {f"{one} (A), {other} (B)": _same_scans(tables[one], tables[other]) for one, other in compared}
    models = dict.fromkeys(model for *_, shared in pairs.values() for model in shared)
    rows: dict[tuple[str, str, str], dict[str, object]] = {
        (SET_TITLES[name], model.removeprefix("model "), title): _tested(first, second, model)
        for model in models
        for title, (first, second, shared) in pairs.items()
        if model in shared
    }
    for title, pair in pairs.items():
        key = (SET_TITLES[name], _JOINED if name == TV else _MEAN, title)
        rows[key] = {**rows.get(key, {}), _BY_PATIENT: _difference(*pair, resamples)}
    return rows


def _same_scans(
    one: tuple[pd.DataFrame, list[str]], other: tuple[pd.DataFrame, list[str]]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Scans and models common to two systems, in the same order."""
    models = [model for model in one[1] if model in other[1]]
    shared = sorted(set(one[0]["case_id"]) & set(other[0]["case_id"]))
    first, second = (table.set_index("case_id").loc[shared].reset_index() for table, _ in (one, other))
    return first, second, models


def _tested(first: pd.DataFrame, second: pd.DataFrame, model: str) -> dict[str, object]:
    labels, a, b = first["label"], first[model], second[model]
    count = len(labels)
    difference, p = Cell(n=count), p_value(np.nan, count)
    if labels.nunique() == 2:
        test = delong_test(labels, a, b)
        difference, p = Cell(test.difference, test.low, test.high, n=count), p_value(test.p_value, count)
    calls = mcnemar_test(labels, a, b)
    p_calls = p_value(calls.p_value if count else np.nan, count)
    return {
        **{_DELONG: difference, "p (DeLong)": p},
        **{"only A right": calls.only_a, "only B right": calls.only_b, "p (McNemar)": p_calls, "Scans": count},
    }


def _difference(first: pd.DataFrame, second: pd.DataFrame, models: list[str], resamples: int) -> Cell:
    if not models:
        return Cell()
    statistic = mean_over_models(CASE_STATISTICS["auc"], models)
    found = bootstrap_difference(first, second, statistic, resamples=resamples)
    return interval_of(found, first["patient_id"].nunique(), len(first))


def _with_holm(rows: dict[tuple[str, str, str], dict[str, object]]) -> pd.DataFrame:
    """Add DeLong's p with Holm correction over the pairs of each set and model."""
    layout = (["set", "model of fold", "pair"], [_DELONG, _BY_PATIENT, *_TESTS])
    frame = table_frame(rows, *layout)
    known = frame["p (DeLong)"].map(lambda cell: cell.value).dropna()
    for _, own in known.groupby(level=["set", "model of fold"]):
        for key, p in zip(own.index, multipletests(own, method="holm")[1], strict=True):
            rows[key]["p (Holm)"] = p_value(float(p))
    return table_frame(rows, *layout)


def _t_test(first: pd.Series, second: pd.Series) -> Cell:
    both = pd.concat([first, second], axis=1).dropna()
    return p_value(t_test_over_folds(both[0], both[1]).p_value, len(both))
