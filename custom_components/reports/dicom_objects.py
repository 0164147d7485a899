"""Findings of one scan as DICOM objects that refer to its CT series: segmentation, attention maps, measurements."""

from pathlib import Path

from custom_components.data.atomic import writable_folder
from custom_components.reports.dicom_attention import make_attention_map
from custom_components.reports.dicom_measurements import make_measurements
from custom_components.reports.dicom_segmentation import make_segmentation, outline
from custom_components.reports.dicom_source import Source, calm, read_source, save
from custom_components.reports.scan_findings import ScanFindings


def write_dicom_objects(findings: ScanFindings, folder: str | Path) -> dict[str, Path]:
    """Write what was found as DICOM objects of the scan's study, each a series of its own.

    Patient and study are those of the source, as DICOM must have them; they go into no log, warning or message.

    Args:
        findings: of a scan that came as a DICOM series.
        folder: where to; made when it does not exist.

    Returns:
        Name to file: ``segmentation`` (unless nothing was found), ``measurements``, and ``attention_us`` and
        ``attention_ss`` of the branches that have a map, each ``<name>.dcm``.

    Raises:
        ValueError: naming the case, when the scan is no DICOM series, the arrays do not lie on its images, a header
            lacks what must be referred to, an attention is not between 0 and 1, or highdicom is not installed.
    """
    _need_highdicom(findings.case_id)
    target = writable_folder(folder)
    with calm():
        source = read_source(findings)
        written = _write_findings(findings, source, target)
        for branch, attention in {"us": findings.attention_us, "ss": findings.attention_ss}.items():
            if attention is not None:
                path = written[f"attention_{branch}"] = target / f"attention_{branch}.dcm"
                save(source, make_attention_map(attention, branch, source), path, deflated=True)
    return written


def _write_findings(findings: ScanFindings, source: Source, target: Path) -> dict[str, Path]:
    """Segmentation and measurements."""
    written = {}
    outlined, frames = outline(findings)
    segmentation = make_segmentation(findings, source, outlined, frames) if frames.size else None
    if segmentation is not None:
        written["segmentation"] = target / "segmentation.dcm"
        save(source, segmentation, written["segmentation"])
    written["measurements"] = target / "measurements.dcm"
    save(source, make_measurements(findings, source, outlined, segmentation), written["measurements"])
    return written


def _need_highdicom(case_id: str) -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"Case {case_id}: DICOM objects are written with highdicom, which is not installed here. "
            "Install it (pip install 'highdicom>=0.28'), or do without DICOM output."
        ) from error
