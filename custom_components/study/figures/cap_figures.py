"""Figures of a study of covid_cap_bundle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from custom_components.infection_size import BAND_BORDERS, COVID
from custom_components.study.figures.contact_sheet import Picture, draw_contact_sheets
from custom_components.study.figures.drawing import LOOKS, Drawing, new_figure, print_style
from custom_components.study.figures.score_plots import draw_fold_dots, draw_forest
from custom_components.study.results.panel_choice import is_right
from custom_components.study.results.study_results import CLASS_TITLES, AttentionPanel, ClassificationResults
from custom_components.study.tables.interval_tables import GROUP_METRICS
from custom_components.study.tables.model_scores import METRICS, SET_TITLES, fold_scores, missing_note
from custom_components.study.tables.table import Table, joined_notes
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

# Bin edges, including the limits of the paper's groups; all scans below the first edge share one bar.
_EDGES = (*(factor * power for power in (1e-4, 1e-3, 1e-2, 1e-1) for factor in (1, 2, 3, 5)), 1.0)
_HEIGHT_MM = 75.0
_VIEWS = (
    "Axial and coronal view: CT, attention of Attention RN34 + US and of Attention RN34 + SS, Grad-CAM of RN34 + US "
    "if it was trained. Above each: class, size of the infection, and each system's probability of COVID-19, by models "
    "that were not trained on the scan. "
)
_RIGHT = f"{_VIEWS}*: COVID-19 scans that this system classified correctly, from each band of the infection ratio."
_WRONG = f"{_VIEWS}*: scans that this system misclassified with most confidence, COVID-19 first."


@print_style()
def draw_size_distribution(cases: pd.DataFrame, sets: dict[str, str]) -> Drawing:
    """Draw a histogram of infection sizes (Fig. 1), COVID-19 upwards and CAP downwards, one panel per set."""
    figure = new_figure(_HEIGHT_MM)
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axes, (name, title) in zip(panels, sets.items(), strict=True):
        _draw_sizes(axes, cases[cases["set"] == name], title)
    panels[0].set_ylabel("number of scans")
    top = max(abs(limit) for limit in panels[0].get_ylim())
    panels[0].set_ylim(-top, top)
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    unknown = int(cases["ratio"].isna().sum())
    return Drawing(
        "size_distribution",
        "Sizes of the infections",
        f"Infection volume as a fraction of the lung volume. The leftmost bar contains all scans below "
        f"{100 * _EDGES[0]:g} %; dotted lines are the limits of the ratio groups. {unknown} scans with unknown ratio "
        "are excluded.",
        figure,
    )


def draw_auc_folds(results: ClassificationResults) -> Drawing:
    """Draw the scores of each fold model: one row per set, one panel per score."""
    rows = [
        {"panel_row": SET_TITLES[name], "panel": title, "system": system, "fold": fold, "value": value}
        for name in results.sets
        for metric, title in METRICS.items()
        for system in results.systems
        for fold, value in fold_scores(results, name, system, metric).items()
    ]
    note = joined_notes(
        "Each point is the model of one fold, scored on its validation fold (TV set) or on the whole test set; the bar "
        "is the mean. Folds without a score have no point.",
        missing_note(results),
    )
    return draw_fold_dots(pd.DataFrame(rows), "folds", "Scores of each fold", note)


def draw_subgroups(name: str, table: Table) -> Drawing:
    """Draw a table of :func:`~custom_components.study.tables.interval_tables.subgroup_tables`, one panel per score."""
    metrics = [METRICS[metric] for metric in GROUP_METRICS]
    rows = [
        {"heading": by, "group": f"{group} ({row['COVID-19']} / {row['CAP']})", "metric": metric, "cell": row[metric]}
        for (by, group), row in zip(table.frame.index, table.frame.to_dict("records"), strict=True)
        for metric in metrics
    ]
    note = "In brackets: scans with COVID-19 / CAP. Dotted line: all scans. Groups with one class have no AUC. "
    return draw_forest(pd.DataFrame(rows), metrics, f"subgroups_{name}", table.title, note + table.note)


def draw_attention_sheets(results: ClassificationResults) -> Iterator[Drawing]:
    """Draw attention figures of each set: of correctly classified scans (Fig. 5), then of failures (Fig. 6).

    Each system has its scans; a scan of several systems is drawn once.
    """
    for name in results.sets:
        there = [panel for panel in _in_order(results) if panel.set == name]
        right = [_picture(results, panel, panel.right) for panel in there if panel.right]
        wrong = [_picture(results, panel, panel.wrong) for panel in there if panel.wrong]
        title = SET_TITLES[name]
        yield from draw_contact_sheets(f"attention_{name}", f"Where the networks looked, {title}", _RIGHT, right)
        yield from draw_contact_sheets(f"failures_{name}", f"Misclassified scans, {title}", _WRONG, wrong)


def _in_order(results: ClassificationResults) -> list[AttentionPanel]:
    """Panels with a figure: COVID-19 first, then by infection size, ascending."""
    there = [panel for panel in results.panels if panel.path is not None and panel.path.is_file()]
    order = results.cases.sort_values(["label", "ratio", "case_id"], ascending=[False, True, True])
    places = {key: place for place, key in enumerate(order[["set", "case_id"]].itertuples(index=False, name=None))}
    return sorted(there, key=lambda panel: places[panel.set, panel.case_id])


def _picture(results: ClassificationResults, panel: AttentionPanel, systems: tuple[str, ...]) -> Picture:
    """Picture with class, size, and the verdict of each system by the models whose attention is drawn."""
    case = results.cases[(results.cases["set"] == panel.set) & (results.cases["case_id"] == panel.case_id)].iloc[0]
    ratio = "of unknown size" if pd.isna(case["ratio"]) else f"{100 * case['ratio']:.2g} % of the lungs"
    rows = results.scans
    rows = rows[(rows["set"] == panel.set) & (rows["case_id"] == panel.case_id) & (rows["fold"] == panel.fold)]
    rows = rows[~rows["system"].isin(results.variants)].dropna(subset="probability")
    verdicts = [
        f"{system}{'*' if system in systems else ''} {probability:.3f}, {'right' if right else 'wrong'}"
        for system, probability, right in zip(rows["system"], rows["probability"], is_right(rows), strict=True)
    ]
    known = f"{panel.case_id}: {CLASS_TITLES[case['label']]}, infection {ratio}. Models of fold {panel.fold}: "
    return Picture(panel.path or Path(), f"{known}{'; '.join(verdicts)}.")


def _draw_sizes(axes: Axes, cases: pd.DataFrame, title: str) -> None:
    edges = np.array([_EDGES[0] / 2, *_EDGES])
    for (label, name), (colour, *_), sign in zip(CLASS_TITLES.items(), LOOKS, (1, -1), strict=False):
        known = cases.loc[cases["label"] == label, "ratio"].dropna()
        counts, _ = np.histogram(known.clip(edges[0], edges[-1]), edges)
        text = f"{name} (n = {len(known)})"
        hatch = "" if label == COVID else "////"
        axes.bar(
            100 * edges[:-1], sign * counts, 100 * np.diff(edges), align="edge", color=colour, label=text,
            hatch=hatch, edgecolor="white", linewidth=0.5,
        )  # fmt: skip
    for border in BAND_BORDERS:
        axes.axvline(100 * border, color="0.3", linestyle=":", linewidth=1)
    axes.axhline(0, color="0", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="infection / lung volume (%)", xlim=(100 * edges[0], 100))
    axes.set_title(title, loc="left")
    axes.legend(loc="upper left")
