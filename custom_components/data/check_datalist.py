"""The command that checks the classifier's datalist again, voxels included."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from custom_components.data.build_datalist import PROGRESS_FROM, checked_ratio, fold_table
from custom_components.data.case_problems import problem_report
from custom_components.data.classification_datalist import list_scans
from tqdm import tqdm

# A stored ratio may be this far from that of the masks: four decimals are enough.
RATIO_TOLERANCE = 1e-4

_logger = logging.getLogger(__name__)


def check_datalist(dataset_dir: str | Path) -> None:
    """Read every scan of a datalist as a training would, before one: for lists that are old or made elsewhere.

    A training checks the datalist and all headers before it starts, but voxels only when a scan is first loaded. This
    checks the same and every voxel: lungs not empty, infection inside them, HU, NaN, and whether the ratio that the
    list gives is that of its masks. Nothing is written.

    Args:
        dataset_dir: a datalist JSON, or its folder.

    Raises:
        ValueError: listing the problems of all scans together.
    """
    scans = list_scans(dataset_dir)
    progress = tqdm(scans, "scans", disable=True if len(scans) < PROGRESS_FROM else None, unit="case")
    problems = [problem for problem in map(_problem, progress) if problem]
    if problems:
        raise ValueError(problem_report(Path(dataset_dir), problems))
    _logger.info("All scans of %s can be used:\n%s", dataset_dir, fold_table(scans))


def _problem(scan: Mapping[str, Any]) -> str:
    """What is wrong with one scan; empty when nothing is."""
    try:
        ratio = checked_ratio(dict(scan))
    except ValueError as error:
        return str(error)
    if abs(ratio - scan["ratio"]) > RATIO_TOLERANCE:
        return (
            f"Case {scan['case_id']}: ratio is {scan['ratio']:.4f} but that of the masks is {ratio:.4f}. Expected at "
            f"most {RATIO_TOLERANCE:g} between them. Correct it, or make the datalist anew with build_datalist"
        )
    return ""
