"""Compare two diagnosed scans and write the results."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.files.atomic import new_folder
from custom_components.files.report_files import write_json
from custom_components.followup.change import Change, find_change
from custom_components.followup.description import describe_comparison
from custom_components.followup.page import render_comparison
from custom_components.followup.pictures import draw_change
from custom_components.followup.registration import register_lungs
from custom_components.followup.scan import DiagnosedScan
from custom_components.followup.viewer import render_linked_viewer
from custom_components.images.writers import save_volume
from custom_components.reports.scan.page import VIEWER_NAME

JSON_NAME, HTML_NAME, MAP_NAME = "comparison.json", "comparison.html", "change.nii.gz"

_logger = logging.getLogger(__name__)


def compare_scans(
    earlier: DiagnosedScan, later: DiagnosedScan, folder: str | Path, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Compare two scans of one patient; the folder appears when all files are in it.

    Args:
        earlier: the earlier scan.
        later: the later scan.
        folder: new folder for ``comparison.json`` and ``comparison.html``, and for ``change.nii.gz`` and
            ``viewer.html``, which are left out if the lungs cannot be registered.
        warnings: what may make the comparison wrong, in sentences.

    Returns:
        Content of ``comparison.json``.

    Raises:
        ValueError: naming the case that has no lungs, or when the folder is not empty.
    """
    _logger.info("Cases %s and %s: register the lungs", earlier.case_id, later.case_id)
    registration = register_lungs(later, earlier)
    change: Change | None = None
    rows, viewer = [], ""
    notes = list(warnings)
    if registration.is_plausible:
        infected = registration.labels_on_later(earlier.infected.astype(np.uint8), earlier, later)
        covered = registration.labels_on_later(np.ones(earlier.hu.shape, np.uint8), earlier, later) != 0
        change = find_change(later.infected, infected, later.affine, covered)
        moved_hu = registration.hu_on_later(earlier, later)
        rows = draw_change(later, moved_hu, infected, change)
        viewer = render_linked_viewer((earlier.case_id, later.case_id), later, moved_hu, infected, change)
        if change.uncovered_ml:
            notes.append(
                "The later scan has infection where the earlier scan shows nothing: it is not in the change map."
            )
    comparison = describe_comparison(later, earlier, registration, change, notes)
    for text in notes:
        _logger.warning("Case %s: %s", later.case_id, text)
    page = render_comparison(comparison, rows)
    with new_folder(folder) as target:
        if change is not None:
            save_volume(change.map, later.affine, target / MAP_NAME)
            (target / VIEWER_NAME).write_text(viewer, encoding="utf-8", errors="replace")
        (target / HTML_NAME).write_text(page, encoding="utf-8", errors="replace")
        write_json(target / JSON_NAME, comparison)
    return comparison
