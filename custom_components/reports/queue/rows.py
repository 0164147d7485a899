"""One row per case: its numbers, and the reasons to look at it first."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.datalists.case_files import natural_key
from custom_components.labels import LESION_CLASSES
from custom_components.reports.scan.left_out import digits_of
from custom_components.reports.scan.report import HTML_NAME, JSON_NAME

# Largest plausible percentage of infection in the lungs.
MOST_PERCENT = 60.0

_logger = logging.getLogger(__name__)


def case_rows(folders: Iterable[Path], failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of finished cases, whichever run finished them, and of those that failed in this run.

    Args:
        folders: folders of the finished cases.
        failed: reason by case.

    Returns:
        Rows: failed ones first, then those with most reasons to look at, then by name. Unknown numbers are None.
    """
    rows = [
        {**_numbers({}), "case_id": name, "why": [f"failed: {why}"], "page": None, "digits": {}}
        for name, why in failed.items()
    ]
    found = []
    for path in (folder / JSON_NAME for folder in folders):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            found.append(_row(report, path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            _logger.warning("%s cannot be read: the overview leaves this case out", path)
    return rows + sorted(found, key=lambda row: (-len(row["why"]), natural_key(row["case_id"])))


def why_first(report: Mapping[str, Any]) -> list[str]:
    """Reasons to look at a case first: its warnings, and an implausible amount of infection.

    Example:
        >>> why_first({"warnings": ["Slices are 8 mm apart."], "infection": {"percent_of_lung": {"total": 61.2}}})
        ['Slices are 8 mm apart.', 'Infection is 61 % of the lungs.']
    """
    percent = ((report["infection"] or {}).get("percent_of_lung") or {}).get("total")
    large = [f"Infection is {percent:.0f} % of the lungs."] if percent is not None and percent > MOST_PERCENT else []
    return [*report["warnings"], *large]


def _row(report: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    page = folder / HTML_NAME
    known = {"case_id": report["case_id"], "why": why_first(report), "page": page if page.is_file() else None}
    scores = report.get("left_out") or {}
    digits = {f"{name}_ml": digits_of(scores.get(name)) for name in LESION_CLASSES}
    return {**known, **_numbers(report), "digits": digits}


def _numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a report, also of one that an earlier version wrote; None where it has none."""
    infection, lesions, scores, where = (
        report.get(key) or {} for key in ("infection", "lesions", "scores", "distribution")
    )
    searched = lesions.get("slices_searched")
    return {
        "lungs_ml": (report.get("lungs") or {}).get("volume_ml", {}).get("total"),
        "infection_ml": infection.get("volume_ml", {}).get("total"),
        "infection_percent": infection.get("percent_of_lung", {}).get("total"),
        "ct_score": where.get("ct_score"),
        **{f"{name}_ml": lesions["volume_ml"][name] if searched else None for name in LESION_CLASSES},
        "p_final": scores.get("p_final"),
    }


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for ``overview.csv``: reasons are one text, what only the page needs is left out."""
    known = [{name: value for name, value in row.items() if name not in ("page", "digits")} for row in rows]
    return [{**row, "why": "; ".join(row["why"])} for row in known]
