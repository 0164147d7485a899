"""Scores of the single folds, to be seen beside their mean."""

import numpy as np
import pandas as pd
from custom_components.study.figures.drawing import Drawing, marker_of, new_figure, print_style
from matplotlib.axes import Axes

_ROW_MM = 58.0
_SPREAD = 0.24  # of the dots of one system, of the distance to the next


@print_style()
def draw_fold_dots(scores: pd.DataFrame, name: str, title: str, note: str) -> Drawing:
    """Draw a dot a fold and a bar at their mean.

    Args:
        scores: ``panel_row`` and ``panel`` (titles), ``system``, ``fold`` and ``value``, in the order of drawing; NaN
            where a fold has none.
        name: of the files.
        title: what is shown.
        note: what is to be known of it.

    Returns:
        The figure.
    """
    rows, columns = scores["panel_row"].unique(), scores["panel"].unique()
    systems = list(scores["system"].unique())
    figure = new_figure(_ROW_MM * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey=True)
    for line, row in zip(grid, rows, strict=True):
        for axes, column in zip(line, columns, strict=True):
            chosen = scores[(scores["panel_row"] == row) & (scores["panel"] == column)]
            _draw(axes, chosen, systems)
            axes.set_title(column, loc="left")
        line[0].set_ylabel(row)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(systems))
    return Drawing(name, title, note, figure)


def _draw(axes: Axes, scores: pd.DataFrame, systems: list[str]) -> None:
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
