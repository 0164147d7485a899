"""``python -m custom_components compare``: two scans of one patient."""

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from custom_components.command_line.endings import FAILED, check_flags, ended_by_ctrl_c
from custom_components.diagnosis.case_folder import REPORT
from custom_components.diagnosis.pipeline import Diagnosis
from custom_components.diagnosis.queue import run_queue, scan_sources
from custom_components.diagnosis.scan_files import read_volume, volume_path
from custom_components.diagnosis.scan_run import diagnose_scan
from custom_components.diagnosis.scan_source import ScanSource
from custom_components.files.atomic import writable_folder
from custom_components.followup.comparison import HTML_NAME, JSON_NAME, compare_scans
from custom_components.followup.pairs import check_pair, pair_warnings
from custom_components.followup.scan import DiagnosedScan

# Most bytes of a folder with the names of both cases.
_MOST_BYTES = 200

_logger = logging.getLogger(__name__)


def compare(
    earlier: str, later: str, output_dir: str, different_patient_ids: bool = False, bundles_dir: str | None = None
) -> None:
    """Compare two chest CTs of one patient. Research use only.

    Both scans are diagnosed as by `diagnose` into <output_dir>/<case>; finished cases are reused, so that scans which
    need options of `diagnose` are diagnosed first, into the same folder. Then the lungs are registered, and
    <output_dir>/compare_<earlier>_<later> gets comparison.json, comparison.html and change.nii.gz on the grid of the
    later scan: 1 infection in both scans, 2 new, 3 resolved.

    Args:
        earlier: NIfTI file or folder of a DICOM study or series.
        later: the same for the later scan.
        output_dir: folder for the results, outside the scans.
        different_patient_ids: compare two DICOM series although their PatientIDs differ, as after pseudonymisation.
        bundles_dir: folder that contains both bundles; default next to the package.
    """
    check_flags(different_patient_ids=different_patient_ids)
    sources = _one_source(earlier, "EARLIER"), _one_source(later, "LATER")
    for path in (earlier, later):
        if Path(path).is_dir() and Path(output_dir).resolve().is_relative_to(Path(path).resolve()):
            raise ValueError("output_dir is inside the folder of a scan. Choose a folder outside it.")
    check_pair(*sources, different_patient_ids)
    target = writable_folder(output_dir)
    with ended_by_ctrl_c():
        cases = _diagnosed(sources, target, bundles_dir)
        folder = target / _folder_name(cases, sources)
        if (folder / JSON_NAME).is_file():
            _logger.info("The comparison is finished already: %s. Remove this folder to repeat it", folder)
            return
        one, other = (_read(source, target / case, case) for source, case in zip(sources, cases, strict=True))
        comparison = compare_scans(one, other, folder, pair_warnings(*sources, one.report, other.report))
    _logger.info("%s", comparison["sentence"])
    _logger.info("Earlier and later scan on one page: %s", folder / HTML_NAME)


def _one_source(path: str, name: str) -> ScanSource:
    sources = scan_sources(path)
    if len(sources) > 1:
        raise ValueError(f"{name} contains {len(sources)} scans. Expected one: name its file or folder.")
    return sources[0]


def _diagnosed(sources: Sequence[ScanSource], target: Path, bundles_dir: str | None) -> list[str]:
    """Diagnose both scans, unless they are finished; returns the names of their cases."""

    @cache
    def diagnosis() -> Diagnosis:
        return Diagnosis(bundles_dir=bundles_dir)

    result = run_queue(sources, target, lambda source, folder: diagnose_scan(source, folder, diagnosis(), dicom=True))
    if result.failed:
        result.log()
        raise SystemExit(FAILED)
    cases = {path: case for case, path in result.paths.items()}
    return [cases[source.path] for source in sources]


def _folder_name(cases: Sequence[str], sources: Sequence[ScanSource]) -> str:
    name = "_".join(["compare", *cases])
    return name if len(name.encode()) <= _MOST_BYTES else "_".join(["compare", *(one.sha256[:12] for one in sources)])


def _read(source: ScanSource, folder: Path, case: str) -> DiagnosedScan:
    """CT, masks and report of a finished case.

    Raises:
        ValueError: naming the case, when it has no infection mask.
    """
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if report["infection"] is None:
        raise ValueError(
            f"Case {case}: infection was not segmented, because VB-Net has no weights or found no lungs "
            "(not_done in report.json). Correct this, remove the folder of the case and run the same command again."
        )
    names = ["lungs", "infection", *(["lesions"] if report["lesions"] is not None else [])]
    masks = {name: read_volume(volume_path(folder, case, name), name) for name in names}
    image = source.image()
    return DiagnosedScan(
        case_id=case,
        hu=np.asarray(image[0]),
        affine=image.affine.numpy(),
        lungs=masks["lungs"],
        infection=masks["infection"],
        lesions=masks.get("lesions"),
        report=report,
    )
