"""Write the report of one scan: report.html for people and report.json for programs."""

import json
from pathlib import Path

from custom_components.files.atomic import atomic_path, writable_folder
from custom_components.files.report_files import write_json
from custom_components.reports.scan.description import describe_scan
from custom_components.reports.scan.displayed import DisplayedScan
from custom_components.reports.scan.findings import ScanFindings
from custom_components.reports.scan.page import render_page

JSON_NAME, HTML_NAME = "report.json", "report.html"


def write_report(findings: ScanFindings, folder: str | Path, has_viewer: bool = False) -> tuple[Path, Path]:
    """Write the report of a scan; the JSON is written last and marks a complete report.

    Neither file names the patient, unless ``findings.patient_id`` is set.

    Args:
        findings: findings of the scan.
        folder: output folder of the case.
        has_viewer: whether the page links to ``viewer.html``.

    Returns:
        Paths of ``report.json`` and ``report.html``.

    Raises:
        ValueError: if the findings are inconsistent; no file is written.
    """
    scan = DisplayedScan(findings)
    report = describe_scan(findings, scan)
    try:
        json.dumps(report, allow_nan=False)
    except ValueError as error:
        name = findings.case_id
        raise ValueError(
            f"Case {name}: the report is not valid JSON ({error}). Expected only finite numbers."
        ) from error
    page = render_page(report, scan, has_viewer)
    target = writable_folder(folder)
    with atomic_path(target / HTML_NAME) as path:
        path.write_text(page, encoding="utf-8", errors="replace")  # a file name may contain invalid Unicode
    write_json(target / JSON_NAME, report)
    return target / JSON_NAME, target / HTML_NAME
