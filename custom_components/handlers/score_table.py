import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from custom_components.files.atomic import writable_folder
from custom_components.files.report_files import write_csv, write_json
from custom_components.images.case_id import UNKNOWN_CASE, case_id, source_path
from ignite.engine import Events
from monai.engines import IterationEvents, Workflow
from monai.utils import string_list_all_gather

_logger = logging.getLogger(__name__)

# Entry with the file of a case, to distinguish cases of the same name; it is not reported.
_SOURCE = "source"


class ScoreTable(ABC):
    """Ignite handler that scores each case of a data set, and writes ``per_case.csv`` and ``summary.json`` at the end.

    A case is kept only if no handler raises an error in its iteration. At the end, the cases of all processes are
    collected, repeats are removed, and rank 0 writes the files.

    Args:
        output_dir: folder of the files.
        protocol: description of the split, copied to the summary.
    """

    def __init__(self, output_dir: str | Path, protocol: str = "") -> None:
        self.output_dir = Path(output_dir)
        self.protocol = protocol
        self._cases: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []

    @abstractmethod
    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Values of one case for the table.

        Args:
            item: input and output of the case.

        Returns:
            ``case_id`` and more: strings, numbers and None.

        Raises:
            ValueError: naming the case, when it cannot be scored.
        """

    @abstractmethod
    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the files, by :meth:`write_files`.

        Args:
            engine: the evaluator.
            cases: result of :meth:`describe` for each case, without repeats.
            kept: index of each case among all evaluated cases, in MONAI's order.
        """

    def write_files(self, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
        """Write the row of each case and the summary."""
        write_csv(self.output_dir / "per_case.csv", rows)
        write_json(self.output_dir / "summary.json", {"protocol": self.protocol, **summary})

    def table(self) -> str:
        """Text table of the scores for the log; empty by default."""
        return ""

    def attach(self, engine: Workflow) -> None:
        """Attach to a MONAI evaluator that decollates its batches."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._cases_predicted)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._cases_completed)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Workflow) -> None:
        writable_folder(self.output_dir)
        self._cases = []

    def _cases_predicted(self, engine: Workflow) -> None:
        items = ({**item, **out} for item, out in zip(engine.state.batch, engine.state.output, strict=True))
        self._pending = [{_SOURCE: source_path(item.get("image")), **self.describe(item)} for item in items]

    def _cases_completed(self, engine: Workflow) -> None:
        self._cases += self._pending
        self._pending = []

    def _completed(self, engine: Workflow) -> None:
        cases = [json.loads(text) for text in string_list_all_gather([json.dumps(case) for case in self._cases])]
        if idist.get_rank() == 0:
            kept = _first_of_each(cases)
            described = [{key: value for key, value in cases[index].items() if key != _SOURCE} for index in kept]
            self.write(engine, described, kept)
            table = f"{text}\n\n" if (text := self.table()) else ""
            _logger.info("%d cases scored.\n\n%sWritten: %s", len(kept), table, self.output_dir.absolute())


def listed_name(item: Mapping[str, Any]) -> str:
    """Name of a case in the datalist, since several files may have the same name; otherwise the name of its file."""
    return case_id(item) if item.get("case_id") is None else str(item["case_id"])


def label_map(labels: Any) -> np.ndarray:
    """Label map (X, Y[, Z]) from a label map (1, X, Y[, Z]), or from one-hot labels or scores (C, X, Y[, Z])."""
    array = torch.as_tensor(labels).detach().float().cpu().numpy()
    return array.argmax(axis=0) if len(array) > 1 else array[0]


def _first_of_each(cases: Sequence[Mapping[str, Any]]) -> list[int]:
    """First index of each case: a distributed sampler repeats cases so that all processes have the same number."""
    first: dict[Any, int] = {}
    for index, case in enumerate(cases):
        nameless = case["case_id"] == UNKNOWN_CASE and case[_SOURCE] is None
        first.setdefault(index if nameless else (case["case_id"], case[_SOURCE]), index)
    if len(first) < len(cases):
        repeats = len(cases) - len(first)
        _logger.warning("%d of %d scored cases are repeats and are left out of the report.", repeats, len(cases))
    return list(first.values())
