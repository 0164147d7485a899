import textwrap
from collections.abc import Mapping

import numpy as np
from custom_components.infection_size import COVID
from custom_components.metrics.classification_scores import classification_scores
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image
from sklearn.metrics import roc_curve

TITLE_WIDTH = 50  # maximum number of characters
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", ":"), ("#cc79a7", "-."))  # Okabe and Ito 2008


def draw_roc(probabilities: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str = "") -> Image.Image:
    """Draw ROC curves with COVID-19 as the positive class and the AUC of each in the legend.

    Args:
        probabilities: name of a curve to the labels (1 COVID-19, 0 CAP) and probabilities of its cases, each of shape
            (N,); N may differ between curves.
        title: title of the figure.

    Returns:
        RGB image, 960 x 960 pixels.

    Raises:
        ValueError: if the cases of a curve have only one class.
    """
    figure = Figure(figsize=(6, 6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for index, (name, (labels, scores)) in enumerate(probabilities.items()):
        legend, (colour, style) = _legend(name, labels, scores), _LINES[index % len(_LINES)]
        false_positive, true_positive, _ = roc_curve(labels, scores, pos_label=COVID, drop_intermediate=False)
        axes.plot(false_positive, true_positive, style, color=colour, label=legend, linewidth=2)
    axes.set(xlabel="1 - specificity (CAP called COVID-19)", ylabel="sensitivity (COVID-19 found)")
    axes.set_title(textwrap.fill(title, TITLE_WIDTH))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    figure.legend(loc="outside lower center")  # beside no curve
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _legend(name: str, labels: ArrayLike, scores: ArrayLike) -> str:
    result = classification_scores(labels, scores)
    if result["auc"] is None:
        raise ValueError(
            f"ROC curve {name!r} has {result['n_covid']} COVID-19 and {result['n_cap']} CAP cases. "
            "Expected both classes: evaluate a data set with both."
        )
    return f"{name}: AUC {result['auc']:.3f} ({result['n_covid']} COVID-19, {result['n_cap']} CAP)"
