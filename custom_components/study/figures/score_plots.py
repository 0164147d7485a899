"""Dot plots of scores: groups with intervals, and folds with their mean."""

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import pandas as pd
from custom_components.study.figures.drawing import Drawing, marker_of, new_figure, print_style
from matplotlib.axes import Axes

_LINE_MM, _FRAME_MM = 4.6, 22.0
_MOST_LETTERS = 34
_ROW_MM = 58.0
_SPREAD = 0.24  # spread of one system's dots relative to the distance between systems


@print_style()
def draw_forest(
    scores: pd.DataFrame, metrics: Sequence[str], name: str, title: str, note: str, axis: str = ""
) -> Drawing:
    """Draw a forest plot with one line per group and one panel per metric; a group without score has an empty line.

    Args:
        scores: ``heading`` (column that defines the groups), ``group`` (title), ``metric`` and ``cell``, in drawing
            order. The first group contains all cases; its value is drawn as a line through all groups.
        metrics: titles of the panels.
        name: file name.
        title: title of the figure.
        note: explanatory note.
        axis: label of the horizontal axes, if the panel titles do not give it.
    """
    scores = scores.assign(**{key: scores["cell"].map(attrgetter(key)) for key in ("value", "low", "high")})
    labels, places = _lines(scores)
    figure = new_figure(_FRAME_MM + _LINE_MM * len(labels))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_lines(axes, scores[scores["metric"] == metric], places)
        axes.set_title(metric, loc="left")
        axes.set_xlabel(axis)
    panels[0].set(yticks=range(len(labels)), ylim=(len(labels) - 0.4, -0.6))
    texts = panels[0].set_yticklabels([text for text, _ in labels])
    for text, (_, is_heading) in zip(texts, labels, strict=True):
        text.set(fontweight="bold" if is_heading else "normal")
    return Drawing(name, title, note, figure)


@print_style()
def draw_fold_dots(scores: pd.DataFrame, name: str, title: str, note: str) -> Drawing:
    """Draw one dot per fold and a bar at the mean.

    Args:
        scores: ``panel_row`` and ``panel`` (titles), ``system``, ``fold`` and ``value`` (NaN if missing), in drawing
            order.
        name: file name.
        title: title of the figure.
        note: explanatory note.
    """
    rows, columns = scores["panel_row"].unique(), scores["panel"].unique()
    systems = list(scores["system"].unique())
    figure = new_figure(_ROW_MM * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    for line, row in zip(grid, rows, strict=True):
        for axes, column in zip(line, columns, strict=True):
            chosen = scores[(scores["panel_row"] == row) & (scores["panel"] == column)]
            _draw_dots(axes, chosen, systems)
            axes.set_title(column, loc="left")
        line[0].set_ylabel(row)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(systems))
    return Drawing(name, title, note, figure)


def _lines(scores: pd.DataFrame) -> tuple[list[tuple[str, bool]], dict[tuple[str, str], int]]:
    """Line texts with whether each is a heading, and the line of each group."""
    labels: list[tuple[str, bool]] = []
    places: dict[tuple[str, str], int] = {}
    for heading, groups in scores.groupby("heading", sort=False):
        if heading:
            labels.append((str(heading), True))
        for group in groups["group"].unique():
            places[str(heading), group] = len(labels)
            labels.append((_shortened(group), False))
    return labels, places


def _draw_lines(axes: Axes, scores: pd.DataFrame, places: dict[tuple[str, str], int]) -> None:
    known = scores.dropna(subset="value")
    lines = [places[heading, group] for heading, group in zip(known["heading"], known["group"], strict=True)]
    axes.hlines(lines, known["low"], known["high"], color="0.25", linewidth=1)
    axes.plot(known["value"], lines, markersize=4, **marker_of(0))
    first = scores["value"].iloc[0]
    if pd.notna(first):
        axes.axvline(first, color="0.6", linestyle=":", linewidth=1, zorder=0)
    axes.set(xlim=(-0.03, 1.03))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def _draw_dots(axes: Axes, scores: pd.DataFrame, systems: list[str]) -> None:
    for place, system in enumerate(systems):
        values = scores.loc[scores["system"] == system, "value"].to_numpy(dtype=float)
        across = place + np.linspace(-_SPREAD, _SPREAD, len(values)) if len(values) > 1 else np.full(len(values), place)
        axes.plot(across, values, markersize=3.5, alpha=0.85, label=system, **marker_of(place))
        if np.isfinite(values).any():
            mean = np.nanmean(values)
            axes.plot([place - 0.36, place + 0.36], [mean, mean], color="0.15", linewidth=1.1)
    axes.set(xticks=[], xlim=(-0.6, len(systems) - 0.4))
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
