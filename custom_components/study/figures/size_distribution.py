"""Distribution of infection sizes in both classes (Fig. 1 of Ouyang et al. 2020)."""

import numpy as np
import pandas as pd
from custom_components.infection_size import BAND_BORDERS, COVID
from custom_components.study.figures.drawing import LOOKS, Drawing, new_figure, print_style
from custom_components.study.results.study_results import CLASS_TITLES
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

# Bin edges, including the limits of the paper's groups; all scans below the first edge share one bar.
_EDGES = (*(factor * power for power in (1e-4, 1e-3, 1e-2, 1e-1) for factor in (1, 2, 3, 5)), 1.0)
_HEIGHT_MM = 75.0


@print_style()
def draw_size_distribution(cases: pd.DataFrame, sets: dict[str, str]) -> Drawing:
    """Draw a histogram of infection sizes, COVID-19 upwards and CAP downwards, one panel per set (name to title)."""
    figure = new_figure(_HEIGHT_MM)
    panels = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axes, (name, title) in zip(panels, sets.items(), strict=True):
        _draw(axes, cases[cases["set"] == name], title)
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


def _draw(axes: Axes, cases: pd.DataFrame, title: str) -> None:
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
