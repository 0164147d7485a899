"""Figures of the slice and lobe labels: AUC by region, and the shares of single scans over their slices."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from custom_components.handlers.slice_table import SLICE
from custom_components.pictures.sheet import short_name
from custom_components.study.figures.drawing import Drawing, look_of, new_figure, print_style
from custom_components.study.figures.score_plots import draw_forest
from custom_components.study.results.slice_scores import INFECTED, LUNG_AREA, MASK, REGIONS, lung_share, slice_auc
from custom_components.study.results.study_results import CLASS_TITLES, ClassificationResults
from custom_components.study.tables.model_scores import SET_TITLES
from custom_components.study.tables.slice_tables import SCANS, scans_of
from custom_components.study.tables.table import Table
from matplotlib.axes import Axes

_PER_CLASS = 3
_ROW_MM = 46.0
_MASK_LOOK: dict[str, Any] = {"color": "0", "linestyle": "-"}


def draw_slice_aucs(name: str, table: Table) -> Drawing:
    """Draw a table of :func:`~custom_components.study.tables.slice_tables.slice_tables`, one panel per class.

    Regions without any score are left out.
    """
    counts = table.frame[SCANS].groupby(level=0, sort=False).max()
    titles = {title: f"{title} (up to {count} scans)" for title, count in counts.items()}
    shown = table.frame.drop(columns=SCANS)
    known = shown.map(lambda cell: not math.isnan(cell.value)).any(axis=1).groupby(level=1).transform("any")
    shown = shown[known]
    rows = [
        {"heading": region, "group": source, "metric": titles[title], "cell": cell}
        for (title, region), cells in zip(shown.index, shown.to_dict("records"), strict=True)
        for source, cell in cells.items()
        if source != LUNG_AREA or region == REGIONS[0].title
    ]
    note = f"Dotted line: lung area, both lungs; that of single lungs and lobes is in the table. {table.note}"
    axis = "AUC over the slices of a scan"
    return draw_forest(pd.DataFrame(rows), list(titles.values()), f"slices_{name}", table.title, note, axis)


def draw_slice_profiles(results: ClassificationResults, scores: pd.DataFrame) -> Iterator[Drawing]:
    """Draw infected and attended share of the lung over the slices, for three scans of each class and set.

    The scans are those with the lowest, the median and the highest AUC of the infection mask.

    Args:
        results: the results.
        scores: as from :func:`~custom_components.study.results.slice_scores.slice_scores`.
    """
    whole = scans_of(results, scores[(scores["source"] == MASK) & (scores["region"] == REGIONS[0].title)])
    known = whole.dropna(subset="auc").sort_values(["auc", "case_id"])
    for name in results.sets:
        own = known[known["set"] == name]
        chosen = {title: _spread(own[own["label"] == label]) for label, title in CLASS_TITLES.items()}
        if any(chosen.values()):
            yield _profiles(results, name, {title: cases for title, cases in chosen.items() if cases})


@print_style()
def _profiles(results: ClassificationResults, name: str, chosen: dict[str, list[str]]) -> Drawing:
    rows = max(map(len, chosen.values()))
    figure = new_figure(_ROW_MM * rows)
    grid = figure.subplots(rows, len(chosen), squeeze=False, sharey=True)
    for column, (title, cases) in zip(grid.T, chosen.items(), strict=True):
        for axes in column[len(cases) :]:
            axes.set_axis_off()
        for axes, case_id in zip(column, cases, strict=False):
            _draw_scan(axes, results, (name, case_id), title)
        column[len(cases) - 1].set_xlabel("slice, from the head")
    figure.supylabel("share of the lungs (%)", fontsize="medium")
    handles, labels = max((axes.get_legend_handles_labels() for axes in grid.flat), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), handlelength=2.4)
    note = (
        "Grey: slices marked by radiologists. Lines: share of the lungs infected by the mask, and attended (soft "
        "mask of Eq. 2) by each system, with the model that was not trained on the scan (test set: of the first "
        "fold). Scans with the lowest, the median and the highest AUC of the infection mask. In brackets: AUC, in the "
        "order of the legend."
    )
    return Drawing(f"slice_profiles_{name}", f"Infection and attention by slice, {SET_TITLES[name]}", note, figure)


def _draw_scan(axes: Axes, results: ClassificationResults, key: tuple[str, str], title: str) -> None:
    own = results.slices[(results.slices["set"] == key[0]) & (results.slices["case_id"] == key[1])]
    models = own[own["fold"] == own["fold"].min()].sort_values(SLICE).groupby("system")
    systems = [system for system in results.systems if system in models.groups]
    slices = models.get_group(systems[0])
    shown = {MASK: (slices, "infection"), **{system: (models.get_group(system), "attention") for system in systems}}
    for source, (rows, column) in shown.items():
        look = _MASK_LOOK if source == MASK else look_of(results.systems.index(source))
        axes.plot(rows[SLICE], 100 * lung_share(rows, column), label=source, **look)
    ends = np.flatnonzero(np.diff(slices[INFECTED].to_numpy(dtype=int), prepend=0, append=0)).reshape(-1, 2)
    spans = [(start - 0.5, end - start) for start, end in ends]
    place = axes.get_xaxis_transform()
    axes.broken_barh(spans, (0, 1), color="0.88", linewidth=0, transform=place, label="marked", zorder=0)
    aucs = ", ".join(f"{slice_auc(rows, REGIONS[0], column):.2f}" for rows, column in shown.values())
    axes.set_title(f"{title}, {short_name(key[1], 24)} ({aucs})", loc="left")
    axes.set(xlim=(slices[SLICE].min(), slices[SLICE].max()))


def _spread(scans: pd.DataFrame) -> list[str]:
    """Case ids evenly over the ranks."""
    ranked = scans["case_id"].tolist()
    places = np.linspace(0, len(ranked) - 1, min(_PER_CLASS, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]
