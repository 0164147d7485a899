"""Reliability curves of a study's systems."""

import pandas as pd
from custom_components.study.figures.drawing import LOOKS, Drawing, new_figure, print_style, say_empty
from custom_components.study.results.predicted_scans import of_system
from custom_components.study.statistics.calibration import NUM_BINS, reliability_curve
from matplotlib.axes import Axes

_ROW_MM = 56.0
# Area in square points of a bin that holds all cases, and the least that can be seen.
_MARKER, _LEAST_MARKER = 130.0, 8.0


@print_style()
def draw_reliability(scans: pd.DataFrame, systems: tuple[str, ...], sets: dict[str, str]) -> Drawing:
    """Draw how often the predicted probability of COVID-19 comes true, a panel for each set and system.

    Args:
        scans: rows of :func:`custom_components.study.results.predicted_scans.predicted_scans`.
        systems: titles in order, a column each.
        sets: name to title of the sets, a row each.

    Returns:
        The figure.
    """
    figure = new_figure(_ROW_MM * len(sets))
    grid = figure.subplots(len(sets), len(systems), squeeze=False, sharex=True, sharey=True)
    for row, (name, title) in zip(grid, sets.items(), strict=True):
        for place, (axes, system) in enumerate(zip(row, systems, strict=True)):
            chosen = of_system(scans, name, system)
            _draw(axes, chosen.dropna(subset="probability"), joined=name == next(iter(sets)), place=place)
            axes.set_title(f"{title}\n{system}", loc="left")
    figure.supxlabel("predicted probability of COVID-19", fontsize="medium")
    figure.supylabel("share of scans with COVID-19", fontsize="medium")
    return Drawing(
        "reliability",
        "Reliability curves",
        f"Scans in {NUM_BINS} bins of equal width of the predicted probability; the area of a point is the share of "
        "scans in its bin. On the grey line probabilities come true. Folds are joined in cross-validation; on a test "
        "set each line is the model of one fold.",
        figure,
    )


def _draw(axes: Axes, scans: pd.DataFrame, joined: bool, place: int) -> None:
    if scans.empty:
        say_empty(axes, "no scans")
        return
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    colour, _, marker = LOOKS[place % len(LOOKS)]
    for _, frame in [(0, scans)] if joined else scans.groupby("fold"):
        curve = reliability_curve(frame["label"], frame["probability"], NUM_BINS)
        areas = (_MARKER * curve.counts / curve.counts.sum()).clip(_LEAST_MARKER)
        axes.plot(curve.predicted, curve.observed, color=colour, linewidth=1, alpha=1 if joined else 0.6)
        axes.scatter(curve.predicted, curve.observed, areas, color=colour, marker=marker, alpha=0.75, linewidth=0)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
