"""Scores of groups of cases with their intervals."""

from collections.abc import Sequence

import pandas as pd
from custom_components.study.figures.drawing import Drawing, marker_of, new_figure, print_style
from matplotlib.axes import Axes

_LINE_MM, _FRAME_MM = 4.6, 22.0
_MOST_LETTERS = 34


@print_style()
def draw_forest(
    scores: pd.DataFrame, metrics: Sequence[str], name: str, title: str, note: str, axis: str = ""
) -> Drawing:
    """Draw a line a group and a panel a metric; where a group has no score the line stays empty.

    Args:
        scores: ``group`` (its title), ``metric``, ``value``, ``low`` and ``high`` (NaN where not defined) and
            ``heading`` (of the column that the groups are of), in the order of drawing. The first group is that of
            all cases; its value is drawn through.
        metrics: titles of the panels.
        name: of the files.
        title: what is shown.
        note: what is to be known of it.
        axis: what the horizontal axes measure, where the panels' titles do not say it.

    Returns:
        The figure.
    """
    labels, places = _lines(scores)
    figure = new_figure(_FRAME_MM + _LINE_MM * len(labels))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _draw(axes, scores[scores["metric"] == metric], places)
        axes.set_title(metric, loc="left")
        axes.set_xlabel(axis)
    panels[0].set(yticks=range(len(labels)), ylim=(len(labels) - 0.4, -0.6))
    texts = panels[0].set_yticklabels([text for text, _ in labels])
    for text, (_, is_heading) in zip(texts, labels, strict=True):
        text.set(fontweight="bold" if is_heading else "normal")
    return Drawing(name, title, note, figure)


def _lines(scores: pd.DataFrame) -> tuple[list[tuple[str, bool]], dict[tuple[str, str], int]]:
    """Texts of the lines with whether they are headings, and the line of each group."""
    labels: list[tuple[str, bool]] = []
    places: dict[tuple[str, str], int] = {}
    for heading, groups in scores.groupby("heading", sort=False):
        if heading:
            labels.append((str(heading), True))
        for group in groups["group"].unique():
            places[str(heading), group] = len(labels)
            labels.append((_shortened(group), False))
    return labels, places


def _draw(axes: Axes, scores: pd.DataFrame, places: dict[tuple[str, str], int]) -> None:
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
