"""ROC curves (Fig. 4 of Ouyang et al. 2020) and reliability curves of a study's systems."""

import math

import pandas as pd
from custom_components.infection_size import COVID
from custom_components.study.figures.drawing import (
    LOOKS,
    Drawing,
    hide_all,
    look_of,
    new_figure,
    print_style,
    say_empty,
)
from custom_components.study.results.study_results import TEST, TV, ClassificationResults
from custom_components.study.statistics.calibration import NUM_BINS, reliability_curve
from custom_components.study.tables.model_scores import SET_TITLES
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from sklearn.metrics import roc_auc_score, roc_curve

_COLUMNS = 3
_ROC_ROW_MM, _RELIABILITY_ROW_MM = 62.0, 56.0
# Marker area in square points for a bin with all cases, and the minimum visible area.
_MARKER, _LEAST_MARKER = 130.0, 8.0
_TICKS = (0, 0.25, 0.5, 0.75, 1)


@print_style()
def draw_roc_panels(results: ClassificationResults) -> Drawing:
    """Draw ROC curves: panel A for all validation folds pooled, then one panel per fold model.

    The fold models are shown on the test set if there is one, otherwise on their validation folds.
    """
    scans, systems = results.scans, results.systems
    has_test = bool((scans["set"] == TEST).any())
    single = scans[scans["set"] == (TEST if has_test else TV)]
    folds = sorted(single["fold"].unique())
    panels = {f"Cross-validation, {_count(scans[scans['set'] == TV]['fold'].nunique())}": scans[scans["set"] == TV]}
    where = "Test set, model of fold" if has_test else "Validation, fold"
    panels |= {f"{where} {fold}": single[single["fold"] == fold] for fold in folds}
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(_ROC_ROW_MM * rows)
    grid = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for number, (axes, (title, frame)) in enumerate(zip(grid, panels.items(), strict=False)):
        _draw_roc(axes, frame, systems, f"{_letter(number)}  {title}")
    hide_all(grid[len(panels) :])
    lines = [Line2D([], [], label=system, **look_of(place)) for place, system in enumerate(systems)]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(systems), handlelength=2.4)
    return Drawing(
        "roc",
        "ROC curves",
        "COVID-19 is the positive class. Panel A pools the folds: each scan has the "
        "probability of the model that was not trained on it. Scans without a probability are excluded.",
        figure,
    )


@print_style()
def draw_reliability(results: ClassificationResults) -> Drawing:
    """Draw reliability curves of the predicted probability of COVID-19, one panel per set and system."""
    sets, systems = results.sets, results.systems
    figure = new_figure(_RELIABILITY_ROW_MM * len(sets))
    grid = figure.subplots(len(sets), len(systems), squeeze=False, sharex=True, sharey=True)
    for row, name in zip(grid, sets, strict=True):
        for place, (axes, system) in enumerate(zip(row, systems, strict=True)):
            known = results.of_system(name, system).dropna(subset="probability")
            _draw_reliability(axes, known, joined=name == sets[0], place=place)
            axes.set_title(f"{SET_TITLES[name]}\n{system}", loc="left")
    figure.supxlabel("predicted probability of COVID-19", fontsize="medium")
    figure.supylabel("fraction of scans with COVID-19", fontsize="medium")
    return Drawing(
        "reliability",
        "Reliability curves",
        f"Scans in {NUM_BINS} bins of equal width of the predicted probability; the area of a point is the fraction of "
        "scans in its bin. Grey line: perfect calibration. Cross-validation: folds pooled; test set: one line per fold "
        "model.",
        figure,
    )


def _draw_roc(axes: Axes, frame: pd.DataFrame, systems: tuple[str, ...], title: str) -> None:
    axes.set_title(title, loc="left")
    known = frame.dropna(subset="probability")
    if known["label"].nunique() < 2:
        say_empty(axes, f"scans of one class only\n(n = {known['case_id'].nunique()})")
        return
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    for place, system in enumerate(systems):
        rows = known[known["system"] == system]
        if rows["label"].nunique() == 2:
            false_positive, true_positive, _ = roc_curve(rows["label"], rows["probability"], pos_label=COVID)
            auc = roc_auc_score(rows["label"], rows["probability"])
            axes.plot(false_positive, true_positive, label=f"{auc:.3f}", **look_of(place))
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xticks=_TICKS, yticks=_TICKS)
    axes.legend(loc="lower right", handlelength=2.4, title="AUC", title_fontsize="small")


def _draw_reliability(axes: Axes, scans: pd.DataFrame, joined: bool, place: int) -> None:
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


def _count(folds: int) -> str:
    return f"{folds} fold{'' if folds == 1 else 's'}"


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)
