import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from custom_components.handlers.score_table import ScoreTable, label_map
from custom_components.images.case_id import case_id
from custom_components.images.geometry import mask_on_image
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.metrics.lesion_scores import ACTUAL, PREDICTED, accuracy, dice, precision, summarize_lesions
from custom_components.reports.lesions import infection_percent
from custom_components.reports.score_tables import score_table
from monai.engines import Workflow
from monai.utils import CommonKeys

_COUNT_COLUMNS = {"pixels_true": ACTUAL, "pixels_pred": PREDICTED}


class LesionScoreTable(ScoreTable):
    """Ignite handler that writes the lesion scores of an evaluation: ``per_case.csv`` and ``summary.json``.

    A row of ``per_case.csv`` has the Dice, precision and accuracy of each lesion class (empty if the class is in
    neither truth nor prediction), its pixels in truth and prediction and, if the batch has ``lung`` on the grid of the
    prediction, the infected percent of the lung. Attach it after the metric, whose counts it reads.

    Args:
        output_dir: folder of the two files.
        metric_name: name under which ``IgniteMetricHandler(LesionScores())`` is attached.
        protocol: description of the split, copied to the summary.
    """

    def __init__(self, output_dir: str | Path, metric_name: str, protocol: str = "") -> None:
        super().__init__(output_dir, protocol)
        self.metric_name = metric_name

    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Name of a case and, with a lung mask, the infected percent of the lung."""
        return {"case_id": case_id(item), **_infection(item)}

    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write both files.

        Raises:
            ValueError: when the metric is not attached to the evaluator.
        """
        if self.metric_name not in engine.state.metric_details:
            raise ValueError(
                f"LesionScoreTable finds no metric {self.metric_name!r}, only {sorted(engine.state.metric_details)}. "
                "Attach IgniteMetricHandler(metric_fn=LesionScores()) under that name, with save_details."
            )
        of_all = engine.state.metric_details[self.metric_name]
        counts = torch.zeros(0, len(LESION_CLASSES) + 1, 4, dtype=torch.long) if of_all is None else of_all.cpu()[kept]
        rows = [_row(case, count) for case, count in zip(cases, counts, strict=True)]
        self.write_files(rows, summarize_lesions(counts, [case["case_id"] for case in cases]))

    def table(self) -> str:
        """Scores of each class."""
        return score_table(self.output_dir / "summary.json")


def _infection(item: Mapping[str, Any]) -> dict[str, float | None]:
    """Infected percent of the lung in truth and prediction, over the pixels that are not ignored."""
    if item.get("lung") is None:
        return {}
    label, given = item[CommonKeys.LABEL], item["lung"]
    lung = label_map(mask_on_image(given, label, "lung", case_id(item)))
    truth, predicted = label_map(label), label_map(item[CommonKeys.PRED])
    predicted = np.where(truth == IGNORE_LABEL, IGNORE_LABEL, predicted)
    percents = {"true": infection_percent(truth, lung), "pred": infection_percent(predicted, lung)}
    return {f"infection_percent_{name}": None if np.isnan(value) else value for name, value in percents.items()}


def _row(case: Mapping[str, Any], counts: torch.Tensor) -> dict[str, Any]:
    row: dict[str, Any] = {"case_id": case["case_id"]}
    for score in (dice, precision, accuracy):
        for name, value in zip(LESION_CLASSES, score(counts)[1:].tolist(), strict=True):
            row[f"{score.__name__}_{name}"] = None if math.isnan(value) else value
    for prefix, column in _COUNT_COLUMNS.items():
        row.update({f"{prefix}_{name}": int(counts[value, column]) for value, name in enumerate(LESION_CLASSES, 1)})
    return row | {name: value for name, value in case.items() if name.startswith("infection")}
