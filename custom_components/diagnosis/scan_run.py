"""Diagnose one scan: checks first, then each result is written as soon as it is computed."""

import dataclasses
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from custom_components.diagnosis.kept_results import KeptResults
from custom_components.diagnosis.pipeline import Diagnosis, read_image
from custom_components.diagnosis.scan_files import MAPS
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.engines.case_evaluator import raise_out_of_memory
from custom_components.engines.root_cause import is_for_people, root_cause
from custom_components.files.report_files import write_png
from custom_components.pictures.contact_sheet import draw_thumbnail
from custom_components.reports.display import Display
from custom_components.reports.queue.overview import THUMBNAIL
from custom_components.reports.scan.findings import ScanFindings
from monai.data import MetaTensor

DICOM_FOLDER = "dicom"
NO_DICOM = "DICOM objects: not written."
# Least size of the results in bytes per voxel of the CT, compressed, as measured; plus the bytes of the report and of
# the viewer.
MASK_BYTES, MAP_BYTES, REPORT_BYTES = 0.004, 0.05, 1_000_000
VIEWER_BYTES = 3_000_000
DICOM_MASK_BYTES, DICOM_MAP_BYTES = 0.04, 0.05

_logger = logging.getLogger(__name__)


def diagnose_scan(source: ScanSource, folder: Path, diagnosis: Diagnosis, dicom: bool, viewer: bool = True) -> None:
    """Diagnose a scan and write its files.

    Args:
        source: the scan; its clock measures the stages.
        folder: unfinished folder of the case; results of an earlier run in it are reused.
        diagnosis: the networks.
        dicom: whether to write DICOM objects for a DICOM series.
        viewer: whether to write ``viewer.html``.

    Raises:
        ValueError: naming the case, when it is not a readable chest CT, no plausible lungs are found, the disk has too
            little space, or files could not be written; the message lists these files, the others are written.
    """
    image = read_image(source)
    results = KeptResults(folder, source.case_id, image.affine.numpy(), source.clock, source.sha256)
    has_objects = dicom and source.series is not None
    check_free_space(folder, source.case_id, math.prod(image.shape), diagnosis.volumes(), has_objects, viewer)
    why_not = _why_no_objects(source, image, folder) if has_objects else None
    findings = diagnosis.find(source, image, results.stage)
    if why_not is not None:
        findings = replace(findings, not_done=(*findings.not_done, why_not))
    _write_files(results, findings, has_objects and why_not is None, viewer)
    results.finish()


def least_bytes(voxels: int, volumes: Sequence[str], has_objects: bool, has_viewer: bool) -> float:
    """Least size of the results of a scan in bytes; arguments as :func:`check_free_space`."""
    each = [(MAP_BYTES, DICOM_MAP_BYTES) if name in MAPS else (MASK_BYTES, DICOM_MASK_BYTES) for name in volumes]
    volumes_bytes = voxels * sum(nifti + dicom * has_objects for nifti, dicom in each)
    return REPORT_BYTES + VIEWER_BYTES * has_viewer + volumes_bytes


def check_free_space(
    folder: Path, case_id: str, voxels: int, volumes: Sequence[str], has_objects: bool, has_viewer: bool = False
) -> None:
    """Check that the disk has space for the results of a scan.

    Args:
        folder: folder of the case; the space of its files counts as free.
        case_id: name of the case.
        voxels: number of voxels of the CT.
        volumes: names of the masks and maps to write.
        has_objects: whether DICOM objects are written.
        has_viewer: whether the viewer is written.

    Raises:
        ValueError: naming the case, with the free and the needed space.
    """
    needed = least_bytes(voxels, volumes, has_objects, has_viewer)
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if free + used < needed:
        raise ValueError(
            f"Case {case_id}: the disk of the output folder has {free / 1e6:.1f} MB free, but the results need at "
            f"least {needed / 1e6:.1f} MB. Free space, or choose another folder."
        )


def _why_no_objects(source: ScanSource, image: MetaTensor, folder: Path) -> str | None:
    """Why DICOM objects cannot be written, as a sentence for the report; None if they can."""
    from custom_components.reports.dicom.objects import check_dicom_objects

    series = source.series
    assert series is not None
    try:
        with source.clock.stage("check DICOM"):
            check_dicom_objects(source.case_id, series, image[0].numpy(), image.affine.numpy(), folder)
    except OSError:  # a full disk or a deleted file is no fault of the DICOM headers
        raise
    except Exception as error:
        raise_out_of_memory(error)
        reason = f"{NO_DICOM} {_safe_message(error, source.case_id, series.files)}"
        _logger.warning("Case %s: %s", source.case_id, reason)
        return reason
    return None


def _safe_message(error: Exception, case_id: str, files: Sequence[Path]) -> str:
    """Reason without file names; messages of other libraries are left out, they may contain patient data."""
    if not is_for_people(error):
        return f"The headers of the series are not valid ({type(error).__name__}). Export the series again."
    reason = root_cause(error, case_id)
    for path in files:
        reason = reason.replace(path.name, "an image of the series")
    return reason[:1].upper() + reason[1:]


def _write_files(results: KeptResults, findings: ScanFindings, has_objects: bool, has_viewer: bool) -> None:
    from custom_components.reports.scan.report import write_report
    from custom_components.reports.scan.viewer import write_viewer

    stages, series = results.stages, findings.series
    shown = {
        "series": None if series is None else dataclasses.asdict(replace(series, files=())),
        "not done": findings.not_done,
        "patient": findings.patient_id is not None,
        "viewer": has_viewer,
    }
    with results.clock.stage("write report"):
        results.files("thumbnail", {}, stages, lambda: [_write_thumbnail(findings, results.folder)])
        results.files("report", shown, stages, lambda: write_report(findings, results.folder, has_viewer))
    if has_viewer:
        with results.clock.stage("write viewer"):
            results.files("viewer", {}, stages, lambda: [write_viewer(findings, results.folder)])
    if has_objects and series is not None:
        from custom_components.reports.dicom.objects import dicom_writers

        made_from = {"study": series.study_uid, "series": series.uid}
        with results.clock.stage("write DICOM"), results.named_when_failed(DICOM_FOLDER):
            for name, write in dicom_writers(findings, results.folder / DICOM_FOLDER).items():
                results.files(f"DICOM {name}", made_from, stages, partial(_written, write))


def _write_thumbnail(findings: ScanFindings, folder: Path) -> Path:
    """Small picture of a case for the overview."""
    display = Display(findings.affine)
    infection = np.zeros_like(findings.lungs) if findings.infection is None else findings.infection
    hu, lungs, infected = (display.turned(array) for array in (findings.image_hu, findings.lungs, infection))
    write_png(folder / THUMBNAIL, draw_thumbnail(hu, lungs, infected, display.spacing_mm))
    return folder / THUMBNAIL


def _written(write: Callable[[], dict[str, Path]]) -> list[Path]:
    return list(write().values())
