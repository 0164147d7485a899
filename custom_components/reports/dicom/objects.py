"""Write findings of a scan as DICOM objects that refer to its CT: segmentation, attention maps, measurements."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from custom_components.dicom.chest_series import Series
from custom_components.files.atomic import temporary_beside, writable_folder
from custom_components.reports.dicom.attention_map import make_attention_map
from custom_components.reports.dicom.measurements import make_measurements
from custom_components.reports.dicom.segmentation import make_segmentation, outline
from custom_components.reports.dicom.source import Source, calm, read_source, save
from custom_components.reports.scan.findings import ScanFindings

Written = dict[str, Path]


def write_dicom_objects(findings: ScanFindings, folder: str | Path) -> Written:
    """Write findings as DICOM objects in the scan's study, each as its own series.

    Patient and study attributes are copied from the source, as DICOM requires, and never shown in logs or messages.

    Args:
        findings: findings of a scan that was read from a DICOM series.
        folder: output folder; created if missing.

    Returns:
        File by name: ``segmentation`` (unless nothing was found), ``measurements``, and ``attention_us`` and
        ``attention_ss`` if available, each ``<name>.dcm``.

    Raises:
        ValueError: names the case when the scan is not a DICOM series, the arrays are not on its grid, a header lacks
            required references, an attention is outside 0 to 1, or highdicom is not installed.
    """
    writers = dicom_writers(findings, folder)
    return {name: path for write in writers.values() for name, path in write().items()}


def dicom_writers(findings: ScanFindings, folder: str | Path) -> dict[str, Callable[[], Written]]:
    """As :func:`write_dicom_objects`, as separate writers, so that one can fail without the others.

    Args:
        findings: findings of a scan that was read from a DICOM series.
        folder: output folder; created if missing.

    Returns:
        Writers by the name of their output. Measurements refer to the segmentation, so both have one writer.
    """
    _need_highdicom(findings.case_id)
    target = writable_folder(folder)
    source = read_source(findings.case_id, findings.series, findings.image_hu.shape, findings.affine)
    maps = {"us": findings.attention_us, "ss": findings.attention_ss}
    attention = {
        f"attention_{branch}": partial(_write_attention, values, branch, source, target)
        for branch, values in maps.items()
        if values is not None
    }
    return {"segmentation and measurements": partial(_write_findings, findings, source, target), **attention}


def check_dicom_objects(case_id: str, series: Series, image_hu: np.ndarray, affine: np.ndarray, folder: Path) -> None:
    """Check, before any network runs, that DICOM objects referring to a series can be written.

    A segmentation of one voxel and its measurements are written and deleted.

    Args:
        case_id: name of the case.
        series: DICOM series of the scan.
        image_hu: CT (X, Y, Z).
        affine: voxel index to RAS mm.
        folder: parent of the objects' folder.

    Raises:
        ValueError: as :func:`write_dicom_objects`.
    """
    lungs = np.zeros(image_hu.shape, np.uint8)
    lungs[0, 0, 0] = 1
    trial = temporary_beside(folder / "dicom")
    try:
        write_dicom_objects(ScanFindings(case_id, image_hu, affine, lungs, "trial", series=series), trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _write_findings(findings: ScanFindings, source: Source, target: Path) -> Written:
    written = {}
    with calm():
        outlined, frames = outline(findings)
        segmentation = make_segmentation(findings, source, outlined, frames) if frames.size else None
        if segmentation is not None:
            written["segmentation"] = target / "segmentation.dcm"
            save(source, segmentation, written["segmentation"])
        written["measurements"] = target / "measurements.dcm"
        save(source, make_measurements(findings, source, outlined, segmentation), written["measurements"])
    return written


def _write_attention(values: np.ndarray, branch: str, source: Source, target: Path) -> Written:
    path = target / f"attention_{branch}.dcm"
    with calm():
        save(source, make_attention_map(values, branch, source), path, deflated=True)
    return {path.stem: path}


def _need_highdicom(case_id: str) -> None:
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"Case {case_id}: DICOM output needs highdicom, which is not installed. "
            "Install it (pip install 'highdicom>=0.28'), or turn off DICOM output."
        ) from error
