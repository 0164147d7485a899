"""The files of one scan: masks and maps as NIfTI, DICOM objects, and the report last."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from custom_components.data.atomic_nifti_writer import AtomicNibabelWriter
from custom_components.data.map_nifti_writer import MapNibabelWriter
from custom_components.diagnosis.stage_clock import StageClock
from custom_components.reports.scan_findings import ScanFindings

MASKS = ("lungs", "infection", "lesions")
MAPS = ("attention_us", "attention_ss")
DICOM_FOLDER = "dicom"
# Files written at a time.
WRITERS = 2


def write_nifti(findings: ScanFindings, folder: Path) -> list[Path]:
    """Write masks and maps as ``<case>_<what>.nii.gz`` on the CT's own grid.

    Args:
        findings: of the scan.
        folder: of the case.

    Returns:
        The files: ``lungs`` (1 left, 2 right), ``infection``, ``lesions`` (1 ground-glass, 2 consolidation, 3 pleural
        effusion), ``attention_us`` and ``attention_ss`` (0 to 1), those that there are.
    """
    names = [name for name in (*MASKS, *MAPS) if getattr(findings, name) is not None]
    with ThreadPoolExecutor(max_workers=WRITERS) as pool:  # most of the time goes into compressing, which frees others
        return list(pool.map(lambda name: _write(findings, name, folder), names))


def _write(findings: ScanFindings, name: str, folder: Path) -> Path:
    writer = MapNibabelWriter(np.float32) if name in MAPS else AtomicNibabelWriter(np.uint8)
    writer.set_data_array(getattr(findings, name), channel_dim=None, squeeze_end_dims=False)
    writer.set_metadata({"affine": findings.affine}, resample=False)
    path = folder / f"{findings.case_id}_{name}.nii.gz"
    writer.write(path)
    return path


def write_scan(findings: ScanFindings, folder: Path, dicom: bool, clock: StageClock) -> None:
    """Write all files of a scan, the report last.

    Args:
        findings: of the scan.
        folder: of the case.
        dicom: whether to write DICOM objects for a DICOM series.
        clock: measures the stages.
    """
    from custom_components.reports.scan_report import write_report

    with clock.stage("write NIfTI"):
        write_nifti(findings, folder)
    if dicom and findings.series is not None:
        from custom_components.reports.dicom_objects import write_dicom_objects

        with clock.stage("write DICOM"):
            write_dicom_objects(findings, folder / DICOM_FOLDER)
    with clock.stage("write report"):
        write_report(findings, folder)
