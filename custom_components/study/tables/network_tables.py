"""Comparison of networks (Tables I and II of Chen et al. 2020) and of split protocols."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import pandas as pd
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.tables.lesion_scores_by_case import (
    METRICS,
    difference_cell,
    mean_cell,
    scores_by_case,
    unit_note,
)
from custom_components.study.tables.table import (
    INCOMPLETE,
    Cell,
    Table,
    failed_note,
    joined_notes,
    table_frame,
    undefined_note,
)

# Titles of columns, and the same words in a row.
AUGMENTATION = {True: "With augmentation", False: "No augmentation"}
AUGMENTED = {True: "yes", False: "no"}

_MEAN = (
    "Mean over lesion classes of the mean over the cases of all folds, each case scored by a network not trained on "
    "it. A class is scored in cases that have it in truth or prediction; classes without such a case are excluded."
)


def network_tables(results: SegmentationResults, resamples: int) -> Iterator[Table]:
    """Tables I and II for each protocol, the main protocol first: one row per network.

    Table I has the first and the last network with the improvement in percent of the last; Table II has all networks.
    """
    ends = list(dict.fromkeys([results.networks[0], results.networks[-1]]))
    for protocol in results.protocols:
        rows = {network: _network_cells(results, network, protocol, resamples) for network in results.networks}
        compared = {network: rows[network] for network in ends}
        if len(ends) == 2:
            first, last = compared.values()
            compared["Improvement (%)"] = {key: _improvement(first[key], last[key]) for key in first}
        yield _table("table_1_comparison", f"Table I. {' and '.join(ends)}", results, protocol, resamples, compared)
        yield _table("table_2_ablation", "Table II. Ablation", results, protocol, resamples, rows)


def protocol_table(results: SegmentationResults, resamples: int) -> Table:
    """Mean Dice under each split protocol and the difference from the first, by network and augmentation."""
    rows = {
        (network, AUGMENTED[augmented]): _protocol_cells(results, network, augmented, resamples)
        for network, augmented in results.trained
    }
    frame = table_frame(rows, ["network", "augmented"])
    words = " ".join(f"{name}: {text}" for name, text in results.protocols.items())
    gain = (
        "Differences are over the cases scored under both protocols: the apparent gain from training on slices of the "
        "same patient."
    )
    note = interval_note(results, [words, gain], frame, resamples, results.protocols)
    return Table("protocols", "Effect of random slice splits", note, frame)


def network_comparison_table(results: SegmentationResults, resamples: int) -> Table:
    """Differences of mean Dice between the first network and each other network, and by augmentation."""
    rows = {}
    for protocol in results.protocols:
        tables = {key: scores_by_case(results, *key, protocol) for key in results.trained}
        for one, other in combinations(tables, 2):
            is_ablation = one[1] == other[1] and one[0] == results.networks[0]
            if is_ablation or one[0] == other[0]:
                rows[protocol, _title(*one), _title(*other)] = _difference(tables[one], tables[other], resamples)
    frame = table_frame(rows, ["protocol", "A", "B"])
    words = ["Mean lesion Dice over the cases that both networks scored."]
    note = interval_note(results, words, frame, resamples, results.protocols)
    return Table("comparisons", "Networks compared pairwise", note, frame)


def table_and_mark(
    results: SegmentationResults, network: str, augmented: bool, protocol: str
) -> tuple[pd.DataFrame, str]:
    """Scores of a network by case, and its footnote mark: empty if none or all cases are missing."""
    own = (network, augmented, protocol)
    return scores_by_case(results, *own), INCOMPLETE if results.is_incomplete(*own) else ""


def scored_note(results: SegmentationResults, protocols: Iterable[str]) -> str:
    """Sentences on unscored cases and failed runs; empty if there are none."""
    parts = [
        f"{INCOMPLETE} {_title(*own)} ({protocol}): "
        f"{results.scores_of(*own, protocol)['case_id'].nunique()} of {len(results.cases)} cases."
        for protocol in protocols
        for own in results.trained
        if results.is_incomplete(*own, protocol)
    ]
    return joined_notes(*parts, failed_note(results.failed))


def _protocol_cells(results: SegmentationResults, network: str, augmented: bool, resamples: int) -> dict[str, object]:
    first, *others = results.protocols
    found = {name: table_and_mark(results, network, augmented, name) for name in results.protocols}
    means: dict[str, object] = {
        f"Dice, {name}": mean_cell(table, "dice", resamples, mark) for name, (table, mark) in found.items()
    }
    pairs = {name: (found[name][0], found[first][0]) for name in others}
    return means | {f"{name} - {first}": difference_cell(*pair, resamples) for name, pair in pairs.items()}


def _difference(one: pd.DataFrame, other: pd.DataFrame, resamples: int) -> dict[str, object]:
    cell = difference_cell(one, other, resamples)
    return {"Dice A - B": cell, "Cases": Cell() if cell.n is None else cell.n}


def _network_cells(
    results: SegmentationResults, network: str, protocol: str, resamples: int
) -> dict[tuple[str, str], Cell]:
    cells = {}
    for augmented in results.augmentation:
        table, mark = table_and_mark(results, network, augmented, protocol)
        for metric, title in METRICS.items():
            cells[AUGMENTATION[augmented], title] = mean_cell(table, metric, resamples, mark)
    return cells


def _improvement(first: Cell, last: Cell) -> Cell:
    if first.n is None or last.n is None:
        return Cell()
    return Cell(100 * (first.value / last.value - 1), digits=1, n=last.n) if last.value else Cell(n=last.n)


def _table(
    name: str,
    title: str,
    results: SegmentationResults,
    protocol: str,
    resamples: int,
    rows: dict[str, dict[tuple[str, str], Cell]],
) -> Table:
    ways = [AUGMENTATION[augmented] for augmented in results.augmentation]
    columns = pd.MultiIndex.from_product([ways, METRICS.values()], names=["training", "metric"])
    frame = table_frame(rows, ["network"], columns)
    note = interval_note(results, [results.protocols[protocol], _MEAN], frame, resamples, [protocol])
    return Table(f"{name}_{protocol}", f"{title} (protocol {protocol})", note, frame)


def _title(network: str, augmented: bool) -> str:
    return f"{network}, {'augmented' if augmented else 'not augmented'}"


def interval_note(
    results: SegmentationResults, words: Sequence[str], frame: pd.DataFrame, resamples: int, protocols: Iterable[str]
) -> str:
    """Note of a table with intervals: how it was computed, then what is undefined or missing."""
    intervals = f"95 % intervals: percentiles of {resamples} bootstrap resamples of {unit_note(results)}."
    return joined_notes(*words, intervals, undefined_note(frame), scored_note(results, protocols))
