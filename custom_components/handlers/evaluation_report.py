import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from custom_components.files.atomic import writable_folder
from custom_components.images.case_id import UNKNOWN_CASE, source_path
from ignite.engine import Events
from monai.engines import IterationEvents, Workflow
from monai.utils import string_list_all_gather

_logger = logging.getLogger(__name__)

# Where the file of a case is kept, which tells cases of one name apart; it is not reported.
_SOURCE = "source"


class EvaluationReport(ABC):
    """Ignite handler that collects the cases of an evaluation, and reports them once at its end.

    A case is described before the metrics count it, and kept once no handler of its iteration has raised. At the end
    the cases of all processes are put together, each once, and rank 0 reports them.

    Args:
        output_dir: folder of the report's files.
        protocol: how the cases were split, for the report.
    """

    def __init__(self, output_dir: str | Path, protocol: str = "") -> None:
        self.output_dir = Path(output_dir)
        self.protocol = protocol
        self._cases: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []

    @abstractmethod
    def describe(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """What the report needs of one case.

        Args:
            item: the case's input and output.

        Returns:
            ``case_id`` and more: strings, numbers and None.
        """

    @abstractmethod
    def write(self, engine: Workflow, cases: Sequence[dict[str, Any]], kept: Sequence[int]) -> None:
        """Write the report.

        Args:
            engine: the evaluator.
            cases: what :meth:`describe` gave for each case, without repeats.
            kept: the place of each among all cases evaluated, in the order in which MONAI gathers them.
        """

    def table(self) -> str:
        """The scores that were written, to be read in the log; none by default."""
        return ""

    def attach(self, engine: Workflow) -> None:
        """Listen to an evaluator.

        Args:
            engine: a MONAI evaluator that decollates its batches.
        """
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


def _first_of_each(cases: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where each case is first: a distributed sampler repeats cases to fill up uneven shards."""
    first: dict[Any, int] = {}
    for index, case in enumerate(cases):
        nameless = case["case_id"] == UNKNOWN_CASE and case[_SOURCE] is None
        first.setdefault(index if nameless else (case["case_id"], case[_SOURCE]), index)
    if len(first) < len(cases):
        _logger.warning(
            "%d of %d scored cases are repeats and left out of the report.", len(cases) - len(first), len(cases)
        )
    return list(first.values())
