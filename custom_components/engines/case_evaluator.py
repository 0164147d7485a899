"""Evaluation that continues with the other cases and files when one fails."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from custom_components.engines.root_cause import root_cause
from custom_components.images.case_id import case_id
from ignite.engine import Events
from monai.data import Dataset
from monai.engines import SupervisedEvaluator

FAILED_CASE = "failed_case"
REASON = "reason"
# Key of an output: reasons by the name of each file that could not be written.
NOT_WRITTEN = "not_written"

_logger = logging.getLogger(__name__)


class CaseDataset(Dataset):
    """MONAI Dataset that returns a marker for a case it cannot load, instead of stopping the run.

    Adds to MONAI: when a transform raises, the item is ``{"failed_case": name, "reason": message}``, for
    :class:`CaseEvaluator`. Out of memory still stops the run.
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            raise_out_of_memory(error)
            name = case_id(self.data[index])
            return {FAILED_CASE: name, REASON: root_cause(error, name)}


class CaseEvaluator(SupervisedEvaluator):
    """MONAI evaluator that continues after a failed case and reports all failures at the end.

    A case fails when :class:`CaseDataset` could not load it, when its forward pass, postprocessing or an iteration
    handler raises, or when its output has files under ``not_written``. The failure is logged and stored in
    ``failures``; handlers of ``ITERATION_COMPLETED`` (metrics, logs, reports) are not called for it. After all cases
    are processed and all final files are written, ``run`` raises an error, so that the process ends with an error
    status. Out of memory stops the run at once.

    Takes the arguments of ``monai.engines.SupervisedEvaluator``; a batch is one case.

    Raises:
        ValueError: when the data loader's batch size is not 1.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        batch_size = getattr(self.data_loader, "batch_size", 1)
        if batch_size != 1:
            raise ValueError(f"CaseEvaluator needs batches of one case, got batch_size {batch_size}. Set it to 1.")
        self.failures: dict[str, str] = {}
        self._iteration_failed = False

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Evaluate all cases.

        Args:
            global_epoch: epoch of the surrounding training.

        Raises:
            RuntimeError: at the end, when cases failed; lists each with the reason.
        """
        self.failures = {}
        super().run(global_epoch)
        if self.failures:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in self.failures.items())
            others = "" if len(self.failures) == self.state.iteration else ", the results of the others are written"
            raise RuntimeError(f"{len(self.failures)} of {self.state.iteration} cases failed{others}:{reasons}")

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict | None:  # type: ignore[override]
        self._iteration_failed = False
        if FAILED_CASE in batchdata:
            self._fail(batchdata[FAILED_CASE][0], batchdata[REASON][0])
            return None
        name = case_id(batchdata)
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            raise_out_of_memory(error)
            self._fail(name, root_cause(error, name))
            return None

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Fire an event, except events of a failed case."""
        if event_name is not Events.ITERATION_COMPLETED:
            return super()._fire_event(event_name, *event_args, **event_kwargs)
        if self._iteration_failed:
            return None
        batch, output = self.state.batch, self.state.output
        name = case_id(batch[0] if isinstance(batch, list) else batch)
        items = output if isinstance(output, list) else [output]
        unwritten = [why for item in items if isinstance(item, dict) for why in item.get(NOT_WRITTEN, {}).values()]
        if unwritten:
            return self._fail(name, "; ".join(unwritten))
        try:
            super()._fire_event(event_name, *event_args, **event_kwargs)
        except Exception as error:
            raise_out_of_memory(error)
            self._fail(name, root_cause(error, name))

    def _fail(self, name: str, reason: str) -> None:
        self._iteration_failed = True
        unique = name if name not in self.failures else f"{name} (iteration {self.state.iteration})"
        self.failures[unique] = reason
        _logger.error("Case %s failed: %s", name, reason)


def raise_out_of_memory(error: BaseException) -> None:
    """Re-raise a caught error if it was caused by lack of memory."""
    cause: BaseException | None = error
    while cause is not None:
        no_host_memory = isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause)
        if isinstance(cause, MemoryError | torch.OutOfMemoryError) or no_host_memory:
            raise error
        cause = cause.__cause__


@contextmanager
def noted_when_unwritten(unwritten: MutableMapping[str, str], name: str, case_id: str) -> Iterator[None]:
    """Record an error as one of a single file of a case and continue; out of memory is raised.

    Args:
        unwritten: mapping to which the reason is added under the name.
        name: name of the file or files.
        case_id: name of the case.

    Example:
        >>> unwritten = {}
        >>> with noted_when_unwritten(unwritten, "012_seg.nii.gz", "012"):
        ...     raise ValueError("the affine is singular.")
        >>> unwritten
        {'012_seg.nii.gz': '012_seg.nii.gz: the affine is singular.'}
    """
    try:
        yield
    except Exception as error:
        raise_out_of_memory(error)
        reason = root_cause(error, case_id)
        is_named = name in reason or " could not be written: " in reason
        unwritten[name] = reason if is_named else f"{name}: {reason}"
        _logger.error("Case %s: %s", case_id, unwritten[name])
