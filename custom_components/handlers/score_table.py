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

# Where the file of a case is kept, which tells cases of one name apart; it is not reported.
_SOURCE = "source"


class ScoreTable(ABC):
    """Ignite handler that scores each case of a data set, and writes ``per_case.csv`` and ``summary.json`` at the end.

    A case is described before the metrics count it, and kept once no handler of its iteration has raised. At the end
    the cases of all processes are put together, each once, and rank 0 writes the files.

    Args:
        output_dir: folder of the files.
        protocol: how the cases were split, written into the summary as it is.
    """

    def __init__(self, output_dir: str | Path, protocol: str = "") -> None:
        self.output_dir = Path(output_dir)
        self.protocol = protocol
        self._cases: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []

    @abstractmethod
    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What the table needs of one case.

        Args:
            item: the case's input and output.

        Returns:
            ``case_id`` and more: strings, numbers and None.

        Raises:
            ValueError: naming the case, when what it holds cannot be scored.
        """

    @abstractmethod
    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the files, by :meth:`write_files`.

        Args:
            engine: the evaluator.
            cases: what :meth:`describe` gave for each case, without repeats.
            kept: the place of each among all cases evaluated, in the order in which MONAI gathers them.
        """

    def write_files(self, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
        """Write the row of each case and the summary."""
        write_csv(self.output_dir / "per_case.csv", rows)
        write_json(self.output_dir / "summary.json", {"protocol": self.protocol, **summary})

    def table(self) -> str:
        """The scores that were written, to be read in the log; none by default."""
        return ""

    def attach(self, engine: Workflow) -> None:
        """Listen to a MONAI evaluator that decollates its batches."""
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
            table = self.table()
            said = f"{table}\n\n" if table else ""
            _logger.info("%d cases scored.\n\n%sWritten: %s", len(kept), said, self.output_dir.absolute())


def listed_name(item: Mapping[str, Any]) -> str:
    """The data list's name of a case, since the files of several cases may be named alike; else that of its file."""
    return case_id(item) if item.get("case_id") is None else str(item["case_id"])


def label_map(labels: Any) -> np.ndarray:
    """Label map (X, Y[, Z]) of a label map (1, X, Y[, Z]) or a one-hot or scores (C, X, Y[, Z])."""
    array = torch.as_tensor(labels).detach().float().cpu().numpy()
    return array.argmax(axis=0) if len(array) > 1 else array[0]


def _first_of_each(cases: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where each case is first: a distributed sampler repeats cases to fill up uneven shards."""
    first: dict[Any, int] = {}
    for index, case in enumerate(cases):
        nameless = case["case_id"] == UNKNOWN_CASE and case[_SOURCE] is None
        first.setdefault(index if nameless else (case["case_id"], case[_SOURCE]), index)
    if len(first) < len(cases):
        repeats = len(cases) - len(first)
        _logger.warning("%d of %d scored cases are repeats and left out of the report.", repeats, len(cases))
    return list(first.values())
