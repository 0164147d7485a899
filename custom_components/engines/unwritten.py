"""Files of a case that could not be written, while the others are."""

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from custom_components.engines.case_evaluator import raise_out_of_memory
from custom_components.engines.root_cause import root_cause

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
