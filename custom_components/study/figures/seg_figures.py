"""Figures of a study of covid_seg_bundle."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from custom_components.study.figures.contact_sheet import Picture, draw_contact_sheets
from custom_components.study.figures.drawing import Drawing
from custom_components.study.figures.score_plots import draw_fold_dots, draw_forest
from custom_components.study.results.study_results import SegmentationResults
from custom_components.study.tables.lesion_scores_by_case import METRICS
from custom_components.study.tables.lesion_tables import LESION_TITLES, MEAN
from custom_components.study.tables.network_tables import AUGMENTATION, AUGMENTED, scored_note
from custom_components.study.tables.table import Cell, Table, joined_notes

_MEAN = "mean of the classes"
_MOST_CASES = 3
_CHOICE = (
    f"Up to {_MOST_CASES} cases, evenly spread from the best to the worst Dice of the first network under the first "
    "protocol. Networks trained {way}; each case predicted by a network not trained on it."
)


def draw_dice_folds(results: SegmentationResults, tables: dict[str, Table]) -> Drawing:
    """Draw the mean Dice of each fold: one row per protocol, one panel per augmentation.

    Args:
        results: the results.
        tables: those of :func:`~custom_components.study.tables.lesion_tables.lesion_fold_table`, by protocol.
    """
    rows = [
        {
            "panel_row": f"Dice (protocol {protocol})",
            "panel": title,
            "system": network,
            "fold": fold,
            "value": cell.value,
        }
        for protocol, table in tables.items()
        for augmented, title in _titles(results)
        for network in results.networks
        for fold, cell in enumerate(table.frame.drop(columns=MEAN).T[(network, AUGMENTED[augmented])])
    ]
    words = " ".join(f"{name}: {text}" for name, text in results.protocols.items())
    note = joined_notes(
        "Each point is the mean lesion Dice of one fold; the bar is the mean over folds.",
        words,
        scored_note(results, list(results.protocols)),
    )
    return draw_fold_dots(pd.DataFrame(rows), "folds", "Dice of each fold", note)


def draw_lesions(results: SegmentationResults, networks: dict[str, Table], lesions: dict[str, Table]) -> Drawing:
    """Draw the Dice of each network by lesion class, with intervals: one panel per protocol and augmentation.

    Args:
        results: the results.
        networks: Table II by protocol.
        lesions: tables of :func:`~custom_components.study.tables.lesion_tables.lesion_table` by protocol.
    """
    rows = [
        {"heading": heading, "group": network, "metric": f"{protocol}\n{title.lower()}", "cell": cell}
        for protocol in results.protocols
        for augmented, title in _titles(results)
        for heading in (_MEAN, *LESION_TITLES.values())
        for network in results.networks
        for cell in [_dice_cell(networks[protocol], lesions[protocol], heading, network, augmented)]
    ]
    note = joined_notes(
        "Dotted line: mean of the first network. Classes that no case has are excluded.",
        next(iter(networks.values())).note,
    )
    scores = pd.DataFrame(rows)
    return draw_forest(scores, list(scores["metric"].unique()), "lesions", "Dice by lesion class", note, "Dice")


def draw_overlay_sheets(results: SegmentationResults) -> Iterator[Drawing]:
    """Draw overlays of cases, with the networks below each other (Fig. 5), one protocol after another."""
    shown = {key: path for key, path in results.overlays.items() if path.is_file()}
    chosen = _chosen(results, {case_id for _, _, case_id in shown})
    for protocol in results.protocols:
        pictures = [
            Picture(shown[network, protocol, case_id], _caption(results, network, protocol, case_id))
            for case_id in chosen
            for network in results.networks
            if (network, protocol, case_id) in shown
        ]
        title = f"Segmented cases (protocol {protocol})"
        way = _titles(results)[0][1].lower()
        note = joined_notes(_CHOICE.format(way=way), results.protocols[protocol])
        yield from draw_contact_sheets(f"overlays_{protocol}", title, note, pictures)


def _titles(results: SegmentationResults) -> list[tuple[bool, str]]:
    return [(augmented, AUGMENTATION[augmented]) for augmented in results.augmentation]


def _chosen(results: SegmentationResults, case_ids: set[str]) -> list[str]:
    """Select cases evenly over the ranks of the first network's mean Dice, best to worst."""
    scores = results.scores_of(results.networks[0], results.augmentation[0], next(iter(results.protocols)))
    known = scores[scores["case_id"].isin(case_ids)].dropna(subset="dice")
    means = known.groupby("case_id")["dice"].mean().reset_index()
    ranked = means.sort_values(["dice", "case_id"], ascending=[False, True])["case_id"].tolist() or sorted(case_ids)
    count = min(_MOST_CASES, len(ranked))
    return [ranked[place] for place in np.linspace(0, len(ranked) - 1, count).round().astype(int)]


def _caption(results: SegmentationResults, network: str, protocol: str, case_id: str) -> str:
    scores = results.scores_of(network, results.augmentation[0], protocol)
    by_lesion = scores[scores["case_id"] == case_id].set_index("lesion")["dice"].dropna()
    parts = [f"{title} {by_lesion[name]:.2f}" for name, title in LESION_TITLES.items() if name in by_lesion]
    return f"{case_id}, {network}: {'Dice ' + ', '.join(parts) if parts else 'no lesion in truth or prediction'}"


def _dice_cell(networks: Table, lesions: Table, heading: str, network: str, augmented: bool) -> Cell:
    cell: Any = (
        networks.frame.loc[network, (AUGMENTATION[augmented], METRICS["dice"])]
        if heading == _MEAN
        else lesions.frame.loc[(heading, network, AUGMENTED[augmented]), METRICS["dice"]]
    )
    return cell
