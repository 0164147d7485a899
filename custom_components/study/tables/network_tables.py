"""Comparison of networks (Tables I and II of Chen et al. 2020) and of split protocols."""

from collections.abc import Iterator, Sequence
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
    """Tables I and II for each protocol, the main protocol first.

    Table I has the first and the last network with the improvement in percent of the last; Table II has all networks.

    One row per network, one column per augmentation and metric.
    """
    ends = list(dict.fromkeys([results.networks[0], results.networks[-1]]))
    for protocol in results.protocols:
        rows = {network: _network_cells(results, network, protocol, resamples) for network in results.networks}
        compared = {network: rows[network] for network in ends}
        if len(ends) == 2:
            compared["Improvement (%)"] = list(map(_improvement, rows[ends[0]], rows[ends[1]]))
        yield _table("table_1_comparison", f"Table I. {' and '.join(ends)}", results, protocol, resamples, compared)
        yield _table("table_2_ablation", "Table II. Ablation", results, protocol, resamples, rows)


def protocol_table(results: SegmentationResults, resamples: int) -> Table:
    """Mean Dice under each split protocol and the difference from the first protocol.

    One row per network and augmentation.
    """
    rows = {
        (network, AUGMENTED[augmented]): _protocol_cells(results, network, augmented, resamples)
        for network, augmented in results.trained
    }
    frame = table_frame(rows, ["network", "augmented"])
    words = " ".join(f"{name}: {text}" for name, text in results.protocols.items())
    note = joined_notes(
        words,
        "Differences are over the cases scored under both protocols: the apparent gain from training on slices of the "
        "same patient.",
        _intervals(results, resamples),
        undefined_note(frame),
        scored_note(results, list(results.protocols)),
    )
    return Table("protocols", "Effect of random slice splits", note, frame)


def network_comparison_table(results: SegmentationResults, resamples: int) -> Table:
    """Differences of mean Dice between the first network and each other network, and by augmentation.

    One row per protocol and pair.
    """
    rows = {}
    for protocol in results.protocols:
        tables = {key: scores_by_case(results, *key, protocol) for key in results.trained}
        for one, other in combinations(tables, 2):
            is_ablation = one[1] == other[1] and one[0] == results.networks[0]
            if is_ablation or one[0] == other[0]:
                rows[protocol, _title(*one), _title(*other)] = _difference(tables[one], tables[other], resamples)
    frame = table_frame(rows, ["protocol", "A", "B"])
    note = joined_notes(
        "Mean lesion Dice over the cases that both networks scored.",
        _intervals(results, resamples),
        undefined_note(frame),
        scored_note(results, list(results.protocols)),
    )
    return Table("comparisons", "Networks compared pairwise", note, frame)


def protocol_mark(results: SegmentationResults, network: str, augmented: bool, protocol: str) -> str:
    """Footnote mark for numbers with missing cases; empty if none or all are missing."""
    return INCOMPLETE if results.is_incomplete(network, augmented, protocol) else ""


def scored_note(results: SegmentationResults, protocols: Sequence[str]) -> str:
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
    tables = {name: scores_by_case(results, network, augmented, name) for name in results.protocols}
    means: dict[str, object] = {
        f"Dice, {name}": mean_cell(table, "dice", resamples, protocol_mark(results, network, augmented, name))
        for name, table in tables.items()
    }
    return means | {f"{name} - {first}": difference_cell(tables[name], tables[first], resamples) for name in others}


def _difference(one: pd.DataFrame, other: pd.DataFrame, resamples: int) -> dict[str, object]:
    cell = difference_cell(one, other, resamples)
    return {"Dice A - B": cell, "Cases": Cell() if cell.n is None else cell.n}


def _network_cells(results: SegmentationResults, network: str, protocol: str, resamples: int) -> list[Cell]:
    return [
        mean_cell(
            scores_by_case(results, network, augmented, protocol),
            metric, resamples, protocol_mark(results, network, augmented, protocol),
        )
        for augmented in results.augmentation
        for metric in METRICS
    ]  # fmt: skip


def _improvement(first: Cell, last: Cell) -> Cell:
    if first.n is None or last.n is None:
        return Cell()
    return Cell(100 * (first.value / last.value - 1), digits=1, n=last.n) if last.value else Cell(n=last.n)


def _table(
    name: str, title: str, results: SegmentationResults, protocol: str, resamples: int, rows: dict[str, list[Cell]]
) -> Table:
    ways = [AUGMENTATION[augmented] for augmented in results.augmentation]
    columns = pd.MultiIndex.from_product([ways, METRICS.values()], names=["training", "metric"])
    index = pd.Index(list(rows), name="network")
    frame = pd.DataFrame(list(rows.values()), index=index, columns=columns, dtype=object)
    note = joined_notes(
        results.protocols[protocol],
        _MEAN,
        _intervals(results, resamples),
        undefined_note(frame),
        scored_note(results, [protocol]),
    )
    return Table(f"{name}_{protocol}", f"{title} (protocol {protocol})", note, frame)


def _title(network: str, augmented: bool) -> str:
    return f"{network}, {'augmented' if augmented else 'not augmented'}"


def _intervals(results: SegmentationResults, resamples: int) -> str:
    return f"95 % intervals: percentiles of {resamples} bootstrap resamples of {unit_note(results)}."
