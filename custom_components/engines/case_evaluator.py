"""Files of a case that could not be written, while the others are."""

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
# Key of an output: reason by the name of each file that could not be written, while the others were.
NOT_WRITTEN = "not_written"

_logger = logging.getLogger(__name__)


class CaseDataset(Dataset):
    """MONAI Dataset that hands on a case it cannot load, instead of ending the run of all the others.

    Adds to MONAI: when a transform raises, the item is ``{"failed_case": name, "reason": message}``, for
    :class:`CaseEvaluator`. Out of memory is not a case's fault and still ends the run.
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            raise_out_of_memory(error)
            name = case_id(self.data[index])
            return {FAILED_CASE: name, REASON: root_cause(error, name)}


class CaseEvaluator(SupervisedEvaluator):
    """MONAI evaluator that goes on after a case that fails, and reports all failures at the end.

    A case fails when its item is a failed one of :class:`CaseDataset`, when its forward pass, its postprocessing or a
    handler of its iteration raises, or when its output has files under ``not_written``. It is logged and kept in
    ``failures``; handlers of ``ITERATION_COMPLETED`` (metrics, logs, reports) never see it. When all cases are through,
    and everything that is written at the end of a run is written, ``run`` raises, so that the process ends with an
    error status. Out of memory ends the run at once.

    Takes the arguments of ``monai.engines.SupervisedEvaluator``; batches hold one case.

    Raises:
        ValueError: when the data loader's batches hold more than one case.
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
            global_epoch: epoch of the training that this is part of.

        Raises:
            RuntimeError: at the end, when cases failed; it names each with its reason.
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
        """Ignite's one way to its handlers: what belongs to a case is not fired for a failed one."""
        if event_name is not Events.ITERATION_COMPLETED:
            return super()._fire_event(event_name, *event_args, **event_kwargs)
        if self._iteration_failed:
            return None
        name = _case_of(self.state.batch)
        if unwritten := _not_written(self.state.output):
            return self._fail(name, "; ".join(unwritten))
        try:
            super()._fire_event(event_name, *event_args, **event_kwargs)
        except Exception as error:
            raise_out_of_memory(error)
            self._fail(name, root_cause(error, name))

    def _fail(self, name: str, reason: str) -> None:
        self._iteration_failed = True
        self.failures[self._unused(name)] = reason
        _logger.error("Case %s failed: %s", name, reason)

    def _unused(self, name: str) -> str:
        """A name under which no failure is kept yet, so that two cases of one name both count."""
        return name if name not in self.failures else f"{name} (iteration {self.state.iteration})"


def raise_out_of_memory(error: BaseException) -> None:
    """Raise an error again if lack of memory is behind it.

    Args:
        error: what was caught.

    Raises:
        BaseException: the same error.
    """
    for cause in _causes(error):
        no_host_memory = isinstance(cause, RuntimeError) and "can't allocate memory" in str(cause)
        if isinstance(cause, MemoryError | torch.OutOfMemoryError) or no_host_memory:
            raise error


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _not_written(output: Any) -> list[str]:
    """Why files of a case could not be written."""
    items = output if isinstance(output, list) else [output]
    return [reason for item in items if isinstance(item, dict) for reason in item.get(NOT_WRITTEN, {}).values()]


def _case_of(batch: Any) -> str:
    """Name of the case of a batch, decollated or not."""
    return case_id(batch[0] if isinstance(batch, list) else batch)


_logger = logging.getLogger(__name__)


@contextmanager
def noted_when_unwritten(unwritten: MutableMapping[str, str], name: str, case_id: str) -> Iterator[None]:
    """Let an error count as that of one file of a case, and go on; out of memory is raised.

    Args:
        unwritten: gets the reason, under the name.
        name: of the file or files.
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
