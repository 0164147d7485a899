import csv
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from custom_components.data.atomic import atomic_path, writable_folder
from custom_components.data.case_id import case_id, source_path
from custom_components.data.lesion_classes import IGNORE_LABEL, LESION_CLASSES
from custom_components.metrics.lesion_scores import ACTUAL, PREDICTED, accuracy, dice, precision, summarize
from custom_components.reports.lesion_volumes import infection_percent
from ignite.engine import Events
from monai.engines import IterationEvents, Workflow
from monai.utils import CommonKeys, string_list_all_gather

_logger = logging.getLogger(__name__)

_COUNT_COLUMNS = {"pixels_true": ACTUAL, "pixels_pred": PREDICTED}


class ScoreReport:
    """Ignite handler that writes the lesion scores of an evaluation: ``per_case.csv`` and ``summary.json``.

    A row of ``per_case.csv`` holds the Dice, precision and accuracy of each lesion class (empty where the class is in
    neither truth nor prediction), its pixels in truth and prediction and, when the batch holds ``lung`` on the grid of
    the prediction, the infected percent of the lung. Attach it after the metric, whose counts it reads.

    Args:
        output_dir: folder of the two files.
        metric_name: name under which ``IgniteMetricHandler(LesionScores())`` is attached.
        protocol: how the cases were split, written into the summary as it is.
    """

    def __init__(self, output_dir: str | Path, metric_name: str, protocol: str = "") -> None:
        self.output_dir = Path(output_dir)
        self.metric_name = metric_name
        self.protocol = protocol
        self._cases: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []

    def attach(self, engine: Workflow) -> None:
        """Listen to an evaluator.

        Args:
            engine: a MONAI evaluator that decollates its batches.
        """
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._case_predicted)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._case_scored)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _started(self, engine: Workflow) -> None:
        writable_folder(self.output_dir)
        self._cases = []

    def _case_predicted(self, engine: Workflow) -> None:
        """Look at the case before the metric counts it: what raises here is not counted either."""
        pairs = zip(engine.state.batch, engine.state.output, strict=True)
        self._pending = [_described({**item, **output}) for item, output in pairs]

    def _case_scored(self, engine: Workflow) -> None:
        """Keep the case after the metric, attached earlier, has counted it: what raises there is not kept."""
        self._cases += self._pending
        self._pending = []

    def _write(self, engine: Workflow) -> None:
        cases = [json.loads(text) for text in string_list_all_gather([json.dumps(case) for case in self._cases])]
        if idist.get_rank() == 0:
            cases, counts = _first_of_each(cases, self._counts(engine))
            self._write_rows([_row(case, count) for case, count in zip(cases, counts, strict=True)])
            self._write_summary(summarize(counts, [case["case_id"] for case in cases]))

    def _counts(self, engine: Workflow) -> torch.Tensor:
        if self.metric_name not in engine.state.metric_details:
            raise ValueError(
                f"ScoreReport finds no metric {self.metric_name!r}, only {sorted(engine.state.metric_details)}. Attach "
                "IgniteMetricHandler(metric_fn=LesionScores()) under that name, with save_details."
            )
        counts = engine.state.metric_details[self.metric_name]
        classes = len(LESION_CLASSES) + 1
        return torch.zeros(0, classes, 4, dtype=torch.long) if counts is None else counts.cpu()

    def _write_rows(self, rows: list[dict[str, Any]]) -> None:
        with (
            atomic_path(self.output_dir / "per_case.csv") as path,
            path.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)) or ["case_id"])
            writer.writeheader()
            writer.writerows(rows)

    def _write_summary(self, summary: Mapping[str, Any]) -> None:
        with atomic_path(self.output_dir / "summary.json") as path:
            text = json.dumps({"protocol": self.protocol, **summary}, indent=2, allow_nan=False)
            path.write_text(text + "\n", encoding="utf-8")


def _described(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"case_id": case_id(item), "source": source_path(item["image"]), **_infection(item)}


def _infection(item: Mapping[str, Any]) -> dict[str, float | None]:
    """Infected percent of the lung in truth and prediction, over the pixels that count."""
    if item.get("lung") is None:
        return {}
    truth, predicted, lung = (_label_map(item[key]) for key in (CommonKeys.LABEL, CommonKeys.PRED, "lung"))
    predicted = np.where(truth == IGNORE_LABEL, IGNORE_LABEL, predicted)
    percents = {"true": infection_percent(truth, lung).volume, "pred": infection_percent(predicted, lung).volume}
    return {f"infection_percent_{name}": None if np.isnan(value) else value for name, value in percents.items()}


def _label_map(labels: Any) -> np.ndarray:
    """Label map (X, Y, Z) of a label map (1, X, Y[, Z]) or a one-hot (4, X, Y[, Z])."""
    array = np.asarray(torch.as_tensor(labels).detach().cpu())
    array = array.argmax(axis=0) if len(array) > 1 else array[0]
    return array.reshape(*array.shape, *[1] * (3 - array.ndim))


def _first_of_each(cases: Sequence[dict[str, Any]], counts: torch.Tensor) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Leave out repeated cases, with which a distributed sampler fills up uneven shards."""
    keys = [case["source"] or f"unknown {index}" for index, case in enumerate(cases)]
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    kept = sorted(first.values())
    if len(kept) < len(cases):
        _logger.warning(
            "%d of %d scored cases are repeats and left out of the report.", len(cases) - len(kept), len(cases)
        )
    return [cases[index] for index in kept], counts[kept]


def _row(case: Mapping[str, Any], counts: torch.Tensor) -> dict[str, Any]:
    row: dict[str, Any] = {"case_id": case["case_id"]}
    for score in (dice, precision, accuracy):
        for name, value in zip(LESION_CLASSES, score(counts)[1:].tolist(), strict=True):
            row[f"{score.__name__}_{name}"] = "" if value != value else value
    for prefix, column in _COUNT_COLUMNS.items():
        row.update({f"{prefix}_{name}": int(counts[value, column]) for value, name in enumerate(LESION_CLASSES, 1)})
    return row | {name: "" if value is None else value for name, value in case.items() if name.startswith("infection")}
